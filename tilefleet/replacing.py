"""Small local files that are written again and again, each time whole, without waiting for what else the disk has to write.

A rename over another file makes ext4 write the new one's bytes first (auto_da_alloc), and that waits for its journal: a status
took 1.0 to 1.6 s behind a large result. Two names exchanged (renameat2, RENAME_EXCHANGE; Linux 3.15, ext4, XFS, Btrfs, tmpfs) are
as atomic and wait for nothing: 5 to 25 ms at worst. After a power failure such a file may be empty, as any other that was written
in the last seconds.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import os
import re
import sys
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NOT_WHOLE = re.compile(r"#\d+\Z")  # as ``staged`` and obstore name them


def write_whole(path: Path, data: Any) -> None:
    """Create or replace a file; readers see all of the old one or all of the new one. Blocks.

    Raises OSError, and ValueError for a name that stands for files that are not whole yet.
    """
    if _NOT_WHOLE.search(path.name):
        raise ValueError(f"{path.name} is the name of a file that is not whole yet")
    if path.is_dir():  # which could be exchanged, too
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary, fd = staged(path)
    try:
        with os.fdopen(fd, "wb", buffering=0) as file:
            write_all(file, data)
        if _exchanged(temporary, path):
            temporary.unlink()
        else:
            temporary.replace(path)  # from here on that name may be another writer's
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def staged(path: Path) -> tuple[Path, int]:
    """A new file beside ``path``, its directories with it, under a name that obstore does not list: it stages in the same way."""
    for number in itertools.count(1):
        temporary = path.with_name(f"{path.name}#{number}")
        try:
            return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:  # of another attempt, which goes on or was killed
            continue
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
    raise AssertionError


def write_all(file: FileIO, data: Any) -> None:
    """Every byte, however few a call takes."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the two have each other's name now; False when there is no other, or this system cannot."""
    renameat2 = _renameat2()
    return renameat2 is not None and renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc 2.28, musl 1.2.6
    if found is not None:
        found.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return found
