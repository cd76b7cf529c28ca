"""How a script runs on a node by way of Systems Manager, which shows the first 24,000 characters of what is printed. Pure.

The rules: the end counts, so it travels packed; the script ends at its deadline on the node; what it reads is fetched. The
script itself is packed as well, as Systems Manager takes ``{{…}}`` in commands for its own.
A presigned URL is a key: it goes to curl on standard input (printf is the shell's own), as everybody on a machine can read
command lines.
"""

from __future__ import annotations

import base64
import gzip
import shlex
import zlib
from typing import NamedTuple

from coordinator.fleet.connections.remote_command import KILL_S

SHOWN_CHARACTERS = 23_500  # of 24,000; what does not fit is cut anyway
_MARK = "tilefleet-output"

# Quoted words are set in front: script, url (of what the script reads; may be empty), seconds. A command that is cancelled
# is killed, which leaves what it started and what it read; the guard ends and removes that.
_WRAPPER = (
    """
exec 2>&1
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
export PATH HOME LC_ALL
cd / && umask 077
fetch() {
  if command -v curl >/dev/null; then
    printf 'url = "%s"\\n' "$url" | curl -fsS --retry 5 --retry-connrefused --connect-timeout 10 --config - "$@"
    return
  fi
  echo "there is no curl on this node, which Systems Manager needs to fetch files with" >&2
  return 69
}
place=$(mktemp -d /run/tilefleet.XXXXXXXX 2>/dev/null || mktemp -d) || exit 71
trap 'rm -rf "$place"' EXIT
in=/dev/null
if [ -n "$url" ]; then
  in="$place/in"
  fetch -o "$in" || exit 72
fi
printf %s "$script" | base64 -d | gzip -dc >"$place/script"
umask 022
late=no
began=$(date +%s)
timeout -k KILL_S "$seconds" /bin/sh "$place/script" <"$in" >"$place/out" 2>&1 &
main=$!
guard='while kill -0 $1; do sleep 1; done; kill -s TERM $2; rm -rf "$3"'
setsid /bin/sh -c "$guard" sh $$ $main "$place" </dev/null >/dev/null 2>&1 &
guard=$!
wait $main
status=$?
kill -s KILL $guard 2>/dev/null
kill -s KILL -- -$main 2>/dev/null
test $status -ge 124 && test $(($(date +%s) - began)) -ge "$seconds" && late=late
for size in 65536 32768 16384; do
  packed=$(tail -c $size "$place/out" | gzip -c | base64 | tr -d '\\n')
  test ${#packed} -le SHOWN && break
done
echo "MARK $status $late $packed"
""".replace("KILL_S", str(KILL_S))
    .replace("SHOWN", str(SHOWN_CHARACTERS - 100))
    .replace("MARK", _MARK)
)


class Said(NamedTuple):
    """What came back."""

    status: int
    output: str
    is_late: bool
    """The deadline ended it."""


def wrapped(script: str, url: str, deadline_s: float) -> str:
    """The command for AWS-RunShellScript."""
    packed = base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
    words = {"script": packed, "url": url, "seconds": str(max(1, round(deadline_s)))}
    return "\n".join(f"{name}={shlex.quote(word)}" for name, word in words.items()) + _WRAPPER


def unwrapped(shown: str) -> Said | None:
    """What a command said; None when it did not come so far as to say it."""
    words = next((line.split() for line in shown.splitlines() if line.startswith(f"{_MARK} ")), [])
    if len(words) != 4 or not words[1].isdigit():
        return None
    try:
        output = gzip.decompress(base64.b64decode(words[3], validate=True))
    except (ValueError, OSError, EOFError, zlib.error):  # not base64, not packed, cut
        return None
    return Said(int(words[1]), output.decode(errors="replace"), words[2] == "late")


_FETCH = """
set -e
umask 077
mkdir -p {folder}
if [ -f {remote} ] && [ "$(sha256sum <{remote} | cut -c 1-64)" = {digest} ]; then
  chown root: {remote} && chmod 600 {remote}
  exit 0
fi
free=$(df -Pk {folder} | tail -n 1 | awk '{{print $4}}')
if [ "$free" -lt {needed_kib} ]; then echo "$free"; exit {full}; fi
status=0
url={url}
printf 'url = "%s"\\n' "$url" | curl -fsS --retry 5 --retry-connrefused --connect-timeout 10 --config - -o {part} || status=$?
if [ $status = 23 ]; then rm -f {part}; echo 0; exit {full}; fi
if [ $status != 0 ]; then rm -f {part}; exit $status; fi
if [ "$(sha256sum <{part} | cut -c 1-64)" != {digest} ]; then rm -f {part}; exit {damaged}; fi
mv -f {part} {remote}
"""
FULL, DAMAGED = 66, 65


def fetching(remote: str, url: str, digest: str, needed_bytes: int) -> str:
    """A script that fetches a file. Ends with FULL (and prints the KiB that are free) or DAMAGED."""
    folder = remote.rpartition("/")[0] or "/"
    return _FETCH.format(
        remote=shlex.quote(remote), part=shlex.quote(f"{remote}.{digest[:16]}.part"), folder=shlex.quote(folder),
        url=shlex.quote(url), digest=digest, needed_kib=needed_bytes // 1024 + 1, full=FULL, damaged=DAMAGED,
    )  # fmt: skip
