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
trap 'wait; exit 130' INT # the terminal tells the tests too, and they clean up
trap 'kill "$first" "$second" 2>/dev/null; wait; exit 143' TERM

status=0
wait "$first" || status=$?
wait "$second" || status=$?
cat "$log"
exit "$status"
