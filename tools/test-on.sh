#!/bin/sh
# Runs the unit tests on another Python of this machine with the newest releases of all libraries:
# `test-on.sh newest|3.11 PYTHON-ALREADY-TESTED`. Says so when there is no other.
set -eu
cd "$(dirname "$0")/.."

minor() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

which=$1 tested=$(minor "$2")
if ! python=$(tools/python.sh "$which"); then
    echo "No Python $which here; the unit tests ran on $tested only."
    exit 0
fi
version=$(minor "$python")
if [ "$version" = "$tested" ]; then
    [ "$which" != newest ] || echo "Python $tested is the newest on this machine; nothing else to test on."
    exit 0
fi
venv=.venv-$version
if [ -z "$(find "$venv/.installed" -newer pyproject.toml 2>/dev/null)" ]; then
    tools/venv.sh "$venv" "$python" newest test
    touch "$venv/.installed"
fi
echo "Unit tests on $("$venv/bin/python" --version) with the newest releases"
"$venv/bin/python" -m pytest --quiet -n 2 tests/unit
