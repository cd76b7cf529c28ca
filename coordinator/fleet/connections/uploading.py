"""How a file gets onto a node over a connection that may break: appended to a part that is named for its content, checked by
SHA-256, then put in place by a rename. What arrived before a break is not sent again, and a file that is there is not at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from coordinator.fleet.connections import refusals
from coordinator.fleet.connections.refusals import Destination
from coordinator.fleet.ports import Finished
from tilefleet.errors import NotFound

PIECE_BYTES = 1024 * 1024
SPARE_BYTES = 16 * 1024 * 1024  # a disk that is full to the last byte breaks other things
_DAMAGED = 65

Send = Callable[[str, AsyncIterator[bytes], int, float], Awaitable[Finished]]
"""Runs a script that reads so many bytes from these pieces, within so many seconds."""

_LOOK = """
set -e
mkdir -p {folder}
if [ -f {remote} ] && [ "$(sha256sum <{remote} | cut -c 1-64)" = {digest} ]; then
  chown root: {remote} && chmod 600 {remote} && rm -f {part}
  echo there
  exit 0
fi
if [ -f {part} ]; then wc -c <{part}; else echo 0; fi
df -Pk {folder} | tail -n 1
"""
_TAKE = """
set -e
umask 077
cat >>{part}
if [ "$(sha256sum <{part} | cut -c 1-64)" != {digest} ]; then rm -f {part}; exit {damaged}; fi
mv -f {part} {remote}
"""


class Content(NamedTuple):
    """Of a local file."""

    size_bytes: int
    digest: str


class Contents:
    """Size and SHA-256 of local files, read once however many nodes get them at the same time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._known: dict[tuple[str, int, int], str] = {}

    async def of(self, path: Path) -> Content:
        """Raises NotFound."""
        try:
            seen = await asyncio.to_thread(path.stat)
            key = (str(path), seen.st_mtime_ns, seen.st_size)
            async with self._lock:
                if key not in self._known:
                    self._known[key] = await asyncio.to_thread(_digest, path)
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror or error}") from error
        return Content(seen.st_size, self._known[key])


async def upload(send: Send, to: Destination, local: Path, remote: str, content: Content, deadline_s: float) -> None:
    """Raises DoesNotFit when the disk is full, NotAllowed when the file cannot be written, Unreachable as ``send`` does."""
    ends_at = asyncio.get_running_loop().time() + deadline_s
    for _ in range(2):
        if await _tried(send, to, local, remote, content, ends_at):
            return
    raise refusals.damaged(to, remote)


async def _tried(send: Send, to: Destination, local: Path, remote: str, content: Content, ends_at: float) -> bool:
    """False when what arrived was damaged and is gone again."""
    loop = asyncio.get_running_loop()
    names = {
        "remote": shlex.quote(remote),
        "part": shlex.quote(f"{remote}.{content.digest[:16]}.part"),
        "folder": shlex.quote(str(Path(remote).parent)),
        "digest": content.digest,
        "damaged": str(_DAMAGED),
    }
    looked = await send(_LOOK.format(**names), _nothing(), 0, ends_at - loop.time())
    if looked.status == 0 and looked.output.split() == ["there"]:
        return True
    found = _found(looked)
    if found is None:
        raise refusals.not_written(to, remote, looked.last_lines())
    has_bytes, free_bytes = found
    start = has_bytes if has_bytes <= content.size_bytes else 0  # the script finds out that a longer one is damaged
    left_bytes = content.size_bytes - start
    if left_bytes + SPARE_BYTES > free_bytes:
        raise refusals.disk_full(to, remote, left_bytes + SPARE_BYTES, free_bytes)
    taken = await send(_TAKE.format(**names), pieces_of(local, start), left_bytes, ends_at - loop.time())
    if taken.status in (0, _DAMAGED):
        return taken.status == 0
    if "No space left" in taken.output or "quota exceeded" in taken.output:
        raise refusals.disk_full(to, remote, left_bytes)
    raise refusals.not_written(to, remote, taken.last_lines())


def _found(looked: Finished) -> tuple[int, int] | None:
    """Bytes of the part that are there, and bytes that are free; None when the script said something else."""
    words = looked.output.split()
    if looked.status or len(words) < 5 or not words[0].isdigit() or not words[4].isdigit():
        return None
    return int(words[0]), int(words[4]) * 1024


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def pieces_of(path: Path, start: int = 0) -> AsyncIterator[bytes]:
    """A file from a byte on."""
    with await asyncio.to_thread(path.open, "rb") as file:
        file.seek(start)
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
