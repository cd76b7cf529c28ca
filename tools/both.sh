#!/bin/sh
# Makes two targets at the same time: `both.sh FIRST SECOND`. What the second prints comes when it has ended. Fails when
# either fails; both go to their end.
set -eu

log=$(mktemp)
trap 'rm -f "$log"' EXIT
${MAKE:-make} "$1" &
first=$!
${MAKE:-make} "$2" >"$log" 2>&1 &
second=$!
trap 'kill "$first" "$second" 2>/dev/null; exit 130' INT TERM

status=0
wait "$first" || status=$?
wait "$second" || status=$?
cat "$log"
exit "$status"
