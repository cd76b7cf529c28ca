#!/bin/sh
# Makes a virtual environment with this project in it, editable: `venv.sh DIRECTORY PYTHON known-good|newest [test]`.
# known-good: the versions of constraints.txt. newest: the newest releases that pyproject.toml allows.
set -eu
cd "$(dirname "$0")/.."

venv=$1 python=$2 versions=$3 group=${4-}

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    echo "Creating $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
case $versions in
known-good) set -- --no-compile --constraint constraints.txt ;;
newest) set -- --no-compile --upgrade --upgrade-strategy eager ;;
esac
echo "Installing tilefleet into $venv (about a minute the first time)"
"$venv/bin/python" -m pip install -qq "$@" --upgrade 'pip>=25.1' # dependency groups
"$venv/bin/python" -m pip install -qq "$@" ${group:+--group "$group"} --editable '.[local]'
# pip compiles everything on one core, which takes longer than the installation; this, what runs, on all.
"$venv/bin/python" -m compileall -qq -j 0 -x '/(tests?|cfnlint|networkx|samtranslator|sympy)/' "$venv"/lib/python3.*/site-packages || :
