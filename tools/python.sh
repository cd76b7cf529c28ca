#!/bin/sh
# Prints the path of a Python for tilefleet: `python.sh default`, `python.sh newest` or `python.sh 3.11` (that version).
# The default is $PYTHON, else python3 when it is new enough, else the newest that is found (also pyenv's, whose shims
# fail for versions that are not switched on). Fails with a sentence when there is none.
set -eu

floor='(3, 11)'

version_of() { # "3 11" when it runs, is a release, is new enough and can make a venv
    "$1" -c "
import sys, ensurepip, venv
assert sys.version_info >= $floor and sys.version_info.releaselevel == 'final'
print(*sys.version_info[:2])" 2>/dev/null
}

candidates() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$name" || true
    done
    for path in /usr/bin/python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
        [ ! -x "$path" ] || echo "$path"
    done
}

choose() { # the candidate with the highest version, the earlier one of equals; with an argument only that version
    best= best_minor=-1
    for candidate in $(candidates); do
        found=$(version_of "$candidate") || continue
        [ -z "${1-}" ] || [ "$1" = "${found% *}.${found#* }" ] || continue
        if [ "${found#* }" -gt "$best_minor" ]; then best=$candidate best_minor=${found#* }; fi
    done
    [ -n "$best" ] && echo "$best"
}

default() {
    if [ -n "${PYTHON-}" ]; then
        command -v "$PYTHON" >/dev/null && version_of "$PYTHON" >/dev/null && command -v "$PYTHON" && return
        echo "PYTHON=$PYTHON is not a Python 3.11 or newer with the venv module; name another or leave PYTHON unset." >&2
        exit 1
    fi
    if version_of python3 >/dev/null; then command -v python3; else choose; fi
}

sentence() {
    if python3 -c "import sys; assert sys.version_info >= $floor" 2>/dev/null; then
        echo "python3 cannot make virtual environments: its ensurepip module is missing. On Debian or Ubuntu: apt-get install python3-venv."
    else
        echo "No Python 3.11 or newer was found. Install one (Debian 12 or newer: apt-get install python3-venv; macOS: brew install python; or pyenv) or set PYTHON=/path/to/it."
    fi
}

case ${1-default} in
default)
    default && exit
    # A fresh Debian without python3-venv: as root it is mended here.
    if [ -z "${PYTHON-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        "$(dirname "$0")/system-packages.sh" python3-venv >&2 && choose && exit
    fi
    sentence >&2
    exit 1
    ;;
newest) choose ;;
*) choose "$1" ;;
esac
