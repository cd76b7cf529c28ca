"""How a script runs on a node: as root, in a process group of its own that ends with it, with us, or at its deadline.

The rule: nothing stays behind. Standard input of the remote shell is the script, what the script reads, and then silence;
when that ends - closed by us at the deadline, or by sshd because we are gone - the group is ended. Should the network be cut
so that nobody notices, ``timeout`` on the node does it.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable

KEPT_BYTES = 64 * 1024
LINE_BYTES = 1024 * 1024  # one JSON line of a journal is far shorter; more is no line
GRACE_S = 15  # the node waits longer than we do, so that who is there decides
KILL_S = 5  # from SIGTERM to SIGKILL

# $1: bytes of the script, $2: bytes that it reads, $3: seconds. For dash, bash and busybox; needs head and timeout.
# 3 is what we send; 5 and 6 are a pipe, made by way of a name because a shell waits for all parts of its own pipes.
# What feeds the script stays to wait for the end of our input. Its directory is in memory, as disks may be full.
_WRAPPER = """
exec 3<&0 2>&1
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
export PATH HOME LC_ALL
cd /
umask 022
script=$(head -c "$1" <&3)
place=$(mktemp -d /run/tilefleet.XXXXXXXX 2>/dev/null || mktemp -d) || exit 71
mkfifo "$place/in"
exec 4<>"$place/in" 5<"$place/in" 6>"$place/in" 4>&-
rm -r "$place"
timeout -k KILL_S "$3" /bin/sh -c "$script" <&5 3<&- 5<&- 6>&- &
main=$!
trap 'kill -s TERM $main 2>/dev/null' TERM HUP
{
  head -c "$2" <&3 >&6
  exec 6>&-
  cat <&3
  kill -s TERM $$
} >/dev/null 2>&1 5<&- &
feeder=$!
exec 3<&- 5<&- 6>&-
while :; do
  wait $main
  status=$?
  kill -0 $main 2>/dev/null || break
done
kill -s KILL $feeder 2>/dev/null
kill -s KILL -- -$main 2>/dev/null
exit $status
""".replace("KILL_S", str(KILL_S))


def command_line(script: bytes, stdin_bytes: int, deadline_s: float, *, needs_sudo: bool) -> str:
    """What is asked of sshd; the script and its input follow on standard input."""
    words = ["/bin/sh", "-c", _WRAPPER, "sh", str(len(script)), str(stdin_bytes), str(int(deadline_s) + GRACE_S)]
    return shlex.join(["sudo", "-n", "--", *words] if needs_sudo else words)


class Output:
    """What a command prints, as it comes: whole lines to whoever watches, the end of it for the report."""

    def __init__(self, on_line: Callable[[str], None] | None = None) -> None:
        self._on_line = on_line
        self._line = bytearray()
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0

    def feed(self, data: bytes) -> None:
        """More of it."""
        self._keep(data)
        if self._on_line is None:
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._say(bytes(self._line) + line)
            self._line.clear()
        self._line += rest
        if len(self._line) > LINE_BYTES:
            self._say(bytes(self._line))
            self._line.clear()

    def close(self) -> str:
        """The end: the last line, should it have no end of its own, and what is kept, at most ``KEPT_BYTES``."""
        if self._on_line is not None and self._line:
            self._say(bytes(self._line))
            self._line.clear()
        return b"".join(self._kept)[-KEPT_BYTES:].decode(errors="replace")

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)
        while self._kept_bytes - len(self._kept[0]) >= KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def _say(self, line: bytes) -> None:
        if self._on_line is not None:
            self._on_line(line.decode(errors="replace").removesuffix("\r"))
