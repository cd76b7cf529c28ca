#!/bin/sh
# Installs the Debian packages that are named (default: those of tests/system-packages.txt) when they are missing and
# this is root; otherwise says what to type. Elsewhere than on Debian it has nothing to do.
set -eu

if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian system: the tests that need systemd-analyze are skipped when it is absent."
    exit 0
fi
[ $# -gt 0 ] || set -- $(sed 's/#.*//' "$(dirname "$0")/../tests/system-packages.txt")

missing=
for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "Missing Debian packages; tests that need them are skipped. To install them: sudo apt-get install$missing"
    exit 0
fi
echo "Installing the Debian packages$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "apt-get could not install$missing; install them by hand and try again." >&2
    exit 1
fi
