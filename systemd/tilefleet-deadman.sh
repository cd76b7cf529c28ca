#!/bin/sh
# Powers this machine off when no coordinator was heard for DEAD_MAN_S seconds, or after LIFETIME_S of running (0: never).
# tilefleet-deadman.timer runs it every minute; docs/explanation/dead-man-switch.md says why it is as it is.
#
# "Heard" is a file that workerd and coordinator touch; what counts is that it changes, not what its time says, and time is
# counted by the uptime: a clock that is set, forwards or back, changes nothing.
set -eu

heard=${HEARD:-/var/lib/tilefleet/heard}
run=${RUNTIME_DIRECTORY:-/run/tilefleet-deadman}     # forgotten when the machine starts again: silence counts anew
state=${STATE_DIRECTORY:-/var/lib/tilefleet-deadman} # kept: running time adds up
read -r uptime _ <"${UPTIME_FILE:-/proc/uptime}"
uptime=${uptime%%.*}

put() { # FILE TEXT: atomically; a full disk must not keep the switch from working
    if { echo "$2" >"$1.new"; } 2>/dev/null && mv "$1.new" "$1"; then return 0; fi
    echo "<4>cannot write $1"
    return 1
}

number() { # VALUE DEFAULT: what a file that was cut short may not have
    case $1 in '' | *[!0-9]*) echo "$2" ;; *) echo "$1" ;; esac
}

check() { # LIMIT VALUE WHY
    [ "$1" -gt 0 ] || return 0
    left=$(($1 - $2))
    if [ "$left" -lt 0 ]; then
        echo "<2>powering off: $3, the limit is $1 s"
        [ "$left" -ge -600 ] || set -- "$@" --force # it was told to ten minutes ago
        shift 3
        ${POWEROFF:-systemctl poweroff} "$@"
        exit 0
    fi
    if [ "$left" -le 300 ] && [ $((left * 2)) -le "$1" ]; then
        echo "<4>this machine powers itself off in $left s: $3, the limit is $1 s"
    fi
}

now=$(stat -c %Y "$heard" 2>/dev/null || echo never)
seen='' since='' passed=60 # the timer waits so long after a start
if [ -r "$run/heard" ]; then
    read -r seen since last <"$run/heard" || :
    passed=$((uptime - $(number "$last" "$uptime")))
fi
since=$(number "$since" "$uptime")
[ "$now" = "$seen" ] || since=$uptime

ran=0
if [ -r "$state/ran" ]; then
    read -r ran <"$state/ran" || :
    ran=$(($(number "$ran" 0) + passed))
fi
if put "$state/ran" "$ran"; then last=$uptime; fi
put "$run/heard" "$now $since ${last:-$uptime}" || :

check "${DEAD_MAN_S:-0}" $((uptime - since)) "no coordinator was heard for $((uptime - since)) s"
check "${LIFETIME_S:-0}" "$ran" "it has been running for $ran s"
