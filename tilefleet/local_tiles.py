"""Tiles and npy rows in a directory, read into the arrays that BLAS uses and written from them, without a copy between.

The rules: bytes pass through the core's cache once, where their crc32c is taken too; a tile appears whole or not at all, by a
link to its name, and the first writer wins. Everything here blocks: call it in a thread. (Through obstore the same takes
three to four times the CPU: docs/adr/0013.)
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from tilefleet.matrix import MatrixRef
from tilefleet.replacing import staged
from tilefleet.zarr_format import CRC32C_BYTES

STEP_BYTES = 2**19  # stays in the second-level cache from the read to its checksum
MOST_BUFFERS = 1023  # IOV_MAX is 1024 on Linux and macOS
_ZEROS = np.zeros(2**16, np.uint8)


class WrongLength(Exception):
    """A file has ``args[0]`` bytes where there must be ``args[1]``."""


class WrongChecksum(Exception):
    """A tile's crc32c is another than that of its bytes."""


def read_tile(path: Path, ref: MatrixRef, within: tuple[slice, slice], part: np.ndarray) -> None:
    """Fill ``part`` with the rows and columns ``within`` the raw tile at ``path``; its rows must be contiguous each.

    Where the tile has a checksum all of it is read and verified. Raises WrongLength, WrongChecksum, OSError.
    """
    tile_rows, tile_cols = ref.grid.tile
    row_bytes = tile_cols * np.dtype(ref.dtype).itemsize
    n_bytes, has_checksum = tile_rows * row_bytes, ref.layout == "raw+crc32c"
    crc = 0
    with path.open("rb", buffering=0) as file:
        _check_size(file.fileno(), n_bytes + CRC32C_BYTES * has_checksum)
        for first, last, buffers in _steps(within, (tile_rows, row_bytes), part, is_whole=has_checksum):
            _fill(file.fileno(), buffers, first * row_bytes, (last - first) * row_bytes)
            if has_checksum:
                for buffer in buffers:
                    crc = google_crc32c.extend(crc, buffer)
        if has_checksum:
            _check_crc(file.fileno(), crc, n_bytes)


def read_bands(path: Path, ref: MatrixRef, rows: int) -> Iterator[np.ndarray]:
    """All of the raw tile at ``path``, ``rows`` rows at a time, in one buffer that the next band overwrites.

    What is wrong is found at the end: use nothing that was made from the bands before the iterator is exhausted. Raises
    WrongLength, WrongChecksum, OSError.
    """
    (tile_rows, tile_cols), dtype = ref.grid.tile, np.dtype(ref.dtype).newbyteorder("<")
    row_bytes = tile_cols * dtype.itemsize
    n_bytes, has_checksum = tile_rows * row_bytes, ref.layout == "raw+crc32c"
    buffer, crc = np.empty((min(rows, tile_rows), tile_cols), dtype), 0
    with path.open("rb", buffering=0) as file:
        _check_size(file.fileno(), n_bytes + CRC32C_BYTES * has_checksum)
        for first in range(0, tile_rows, rows):
            band = buffer[: min(rows, tile_rows - first)]
            _fill(file.fileno(), [band], first * row_bytes, band.nbytes)
            crc = google_crc32c.extend(crc, band) if has_checksum else 0
            yield band
        if has_checksum:
            _check_crc(file.fileno(), crc, n_bytes)


def _steps(
    within: tuple[slice, slice], shape: tuple[int, int], part: np.ndarray, *, is_whole: bool
) -> Iterator[tuple[int, int, list[np.ndarray]]]:
    """Rows [first, last) of the tile at a time, and the buffers that take them: ``part``, or scratch for what is not wanted."""
    tile_rows, row_bytes = shape
    rows, cols = within
    left = cols.start * part.itemsize
    right = row_bytes - left - part.shape[1] * part.itemsize
    step = max(1, min(STEP_BYTES // row_bytes, MOST_BUFFERS // 3))
    scratch = np.empty((step, row_bytes), np.uint8) if is_whole or left or right else np.empty((0, 0), np.uint8)
    edges = sorted({rows.start, rows.stop, *((0, tile_rows) if is_whole else ())})
    for begin, end in itertools.pairwise(edges):
        is_wanted = rows.start <= begin < rows.stop
        for first in range(begin, end, step):
            last = min(first + step, end)
            if not is_wanted:
                yield first, last, [scratch[: last - first]]
            elif left or right:
                yield first, last, _framed(part[first - rows.start : last - rows.start], scratch, left, right)
            else:
                yield first, last, _lines(part[first - rows.start : last - rows.start])


def _framed(lines: np.ndarray, scratch: np.ndarray, left: int, right: int) -> list[np.ndarray]:
    buffers = []
    for line, rest in zip(lines, scratch, strict=False):
        buffers += [rest[:left], line, rest[left : left + right]]
    return [buffer for buffer in buffers if buffer.size]


def _lines(lines: np.ndarray) -> list[np.ndarray]:
    return [lines] if lines.flags.c_contiguous else [*lines]


def read_rows(path: Path, starts: Sequence[int], lines: np.ndarray) -> None:
    """Fill each row of ``lines``, contiguous in itself, with the bytes of the file that begin at its start; or all rows, when
    these are contiguous and there is one start. Raises WrongLength, OSError."""
    with path.open("rb", buffering=0) as file:
        targets = [lines] if len(starts) == 1 else [*lines]
        for start, target in zip(starts, targets, strict=True):
            _fill(file.fileno(), [target], start, target.nbytes)


def _fill(fd: int, buffers: list[Any], start: int, n_bytes: int) -> None:
    got = os.preadv(fd, buffers, start)
    if got == n_bytes:
        return
    flat: Any = np.empty(n_bytes, np.uint8)  # a file system that gives less at once, or a file that is shorter by now
    got = 0
    while got < n_bytes:
        more = os.preadv(fd, [flat[got:]], start + got)
        if not more:
            raise WrongLength(start + got, start + n_bytes)
        got += more
    for buffer in buffers:
        buffer[...] = flat[: buffer.nbytes].view(buffer.dtype).reshape(buffer.shape)
        flat = flat[buffer.nbytes :]


def _check_size(fd: int, expected: int) -> None:
    if (found := os.fstat(fd).st_size) != expected:
        raise WrongLength(found, expected)


def _check_crc(fd: int, crc: int, at: int) -> None:
    if crc.to_bytes(CRC32C_BYTES, "little") != os.pread(fd, CRC32C_BYTES, at):
        raise WrongChecksum


def create_tile(path: Path, ref: MatrixRef, bands: Iterable[np.ndarray]) -> int | None:
    """Write the tile that ``bands`` of rows make up, padded with zeros and followed by its crc32c where the layout has one.

    The bytes written; None, and no change, when there was a file of that name. Raises OSError, and what ``bands`` raises.
    """
    name, fd = staged(path)
    try:
        with os.fdopen(fd, "wb", buffering=0):
            n_bytes = _write_tile(fd, ref, bands)
        os.link(name, path)
    except FileExistsError:
        return None
    finally:
        name.unlink(missing_ok=True)
    return n_bytes


def _write_tile(fd: int, ref: MatrixRef, bands: Iterable[np.ndarray]) -> int:
    (tile_rows, tile_cols), dtype = ref.grid.tile, np.dtype(ref.dtype).newbyteorder("<")
    crc = written = rows = 0
    for band in bands:
        crc, written = _write_rows(fd, band.astype(dtype, copy=False), tile_cols, crc, written)
        rows += len(band)
    below = (tile_rows - rows) * tile_cols * dtype.itemsize
    for start in range(0, below, len(_ZEROS)):
        crc, written = _write(fd, [_ZEROS[: below - start]], crc, written)
    if ref.layout == "raw+crc32c":
        _, written = _write(fd, [np.frombuffer(crc.to_bytes(CRC32C_BYTES, "little"), np.uint8)], crc, written)
    return written


def _write_rows(fd: int, band: np.ndarray, tile_cols: int, crc: int, written: int) -> tuple[int, int]:
    step = max(1, min(STEP_BYTES // (tile_cols * band.itemsize), MOST_BUFFERS // 2))
    row_pad = np.zeros((tile_cols - band.shape[1]) * band.itemsize, np.uint8)
    for first in range(0, len(band), step):
        lines = band[first : first + step]
        buffers = [each for line in lines for each in (line, row_pad)] if row_pad.size else _lines(lines)
        crc, written = _write(fd, buffers, crc, written)
    return crc, written


def _write(fd: int, buffers: list[Any], crc: int, written: int) -> tuple[int, int]:
    """Append all of ``buffers``; the checksum and the length with them."""
    for buffer in buffers:
        crc = google_crc32c.extend(crc, buffer)
    expected = sum(buffer.nbytes for buffer in buffers)
    got = os.writev(fd, buffers)
    if got < expected:
        rest = memoryview(b"".join(buffer.tobytes() for buffer in buffers))[got:]
        while rest:
            rest = rest[os.write(fd, rest) :]
    return crc, written + expected
