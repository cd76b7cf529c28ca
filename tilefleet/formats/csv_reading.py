"""CSV from the store, in bounded memory: scans and parses of byte ranges, and unpacking of gzip.

The rule: a line belongs to the range in which it begins, however far it reaches; an error names file, line and column. The
line number is counted from the start of the file only when there is an error to report.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import NoReturn

import numpy as np

from tilefleet.errors import BadInput, NotFound, TilefleetError
from tilefleet.facts import CsvFacts
from tilefleet.formats import csv
from tilefleet.formats.csv_index import n_pieces
from tilefleet.messages import ParseCsv, ScanCsv
from tilefleet.store import Store

READ_BYTES = 4 * 2**20
MAX_LINE_BYTES = 256 * 2**20  # 10 million columns of float64; beyond it this is no CSV, or a matrix for another format
_PIECE_BYTES = 8 * 2**20


async def scan_csv(store: Store, key: str, work: ScanCsv) -> CsvFacts:
    """Rows per piece, columns and widest type of the lines that begin in the work's bytes; ``work.dtype`` settles the type.

    Raises BadInput with file, line and column for ragged lines and for what is no number, where these could change what is found;
    the others are found by ``parse_csv``.
    """
    rows = np.zeros(n_pieces(work.byte0, work.byte1, work.piece_bytes), np.int64)
    found = csv.Scanned(0, work.dtype or "bool")
    async for offset, text in whole_lines(store, key, work.byte0, work.byte1, work.source.size_bytes):
        try:
            starts = await asyncio.to_thread(csv.row_starts, text)
            found = await asyncio.to_thread(csv.survey, text, starts, *found, is_typed=work.dtype is not None)
        except csv.CsvError as error:
            await _raise_located(store, key, error.later(offset))
        pieces = (starts + (offset - work.byte0)) // work.piece_bytes
        rows += np.bincount(pieces, minlength=len(rows))
    return CsvFacts(rows=tuple(rows.tolist()), cols=found.cols, dtype=found.dtype)


async def parse_csv(store: Store, key: str, work: ParseCsv) -> np.ndarray:
    """The rows of ``work.rect``, shape ``work.rect.shape``, dtype ``work.out.dtype``.

    Raises BadInput with file, line and column for what does not fit that type.
    """
    block = np.empty(work.rect.shape, work.out.dtype)
    skip, filled = work.skip_rows, 0
    async for offset, text in whole_lines(store, key, work.byte0, work.byte1, work.source.size_bytes):
        starts = await asyncio.to_thread(csv.row_starts, text)
        if len(starts) <= skip:
            skip -= len(starts)
            continue
        first, stop = int(starts[skip]), skip + len(block) - filled
        text = text[first : int(starts[stop]) if stop < len(starts) else len(text)]  # noqa: PLW2901
        skip = 0
        try:
            filled += await asyncio.to_thread(csv.parse_into, text, block[filled:])
        except csv.CsvError as error:
            await _raise_located(store, key, error.later(offset + first))
        if filled == len(block):
            return block
    raise BadInput(f"{store.shown(key)} has fewer lines than it had when it was scanned; it was changed or truncated")


async def gunzip(source: Store, source_key: str, out: Store, out_key: str) -> int:
    """Unpack a gzip stream (of any number of members) to an object; its length. Holds a few pieces of 8 MiB.

    Raises BadInput, and leaves no object, when the stream is damaged or ends early.
    """
    failures: list[TilefleetError] = []
    n_bytes = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal n_bytes
        try:
            async for piece in unpacked(source, source_key):
                n_bytes += len(piece)
                yield piece
        except TilefleetError as error:
            failures.append(error)  # obstore would wrap it
            raise

    try:
        await out.put_stream(out_key, pieces())
    except Exception:
        if failures:
            raise failures[0] from None
        raise
    return n_bytes


async def whole_lines(store: Store, key: str, start: int, stop: int, size_bytes: int) -> AsyncIterator[tuple[int, bytes]]:
    """(offset, text) of about ``READ_BYTES`` of whole lines, for all lines of a file that begin in bytes [start, stop).

    Raises BadInput for a line longer than ``MAX_LINE_BYTES``.
    """
    at, held, is_in_line = max(start - 1, 0), b"", start > 0  # the byte before tells whether a line begins at ``start``
    while at < stop:
        end = min(at + len(held) + max(READ_BYTES, len(held)), size_bytes)
        held += bytes(await store.get_range(key, at + len(held), end))
        if at + len(held) < end:
            raise BadInput(f"{store.shown(key)} is shorter than it was when it was looked at; it was truncated or changed")
        if is_in_line:
            skipped = held.find(b"\n") + 1
            is_in_line = skipped == 0
            skipped = skipped or len(held)
            at, held = at + skipped, held[skipped:]
            continue
        cut = _cut(held, stop - 1 - at, is_whole=end == size_bytes)
        if cut:
            yield at, held[:cut]
            at, held = at + cut, held[cut:]
        elif len(held) > MAX_LINE_BYTES:
            raise BadInput(f"{store.shown(key)} has a line of more than 256 MiB at byte {at}; it is no CSV of numbers")


def _cut(held: bytes, last: int, *, is_whole: bool) -> int:
    """How much of the held bytes to hand on: up to the first newline at or after ``last``, else all whole lines."""
    newline = held.find(b"\n", max(0, last)) if last < len(held) else -1
    if newline >= 0:
        return newline + 1
    return len(held) if is_whole else held.rfind(b"\n") + 1


async def unpacked(source: Store, key: str) -> AsyncIterator[bytes]:
    """The plain bytes of a gzip stream, in pieces of at most 8 MiB. Raises BadInput when it is damaged or ends early."""
    entry = await source.head(key)
    if entry is None:
        raise NotFound(f"there is no {source.shown(key)}")
    unpacker, is_begun = zlib.decompressobj(wbits=31), False
    for start in range(0, entry.size_bytes, READ_BYTES):
        packed = bytes(await source.get_range(key, start, min(start + READ_BYTES, entry.size_bytes)))
        is_more = True
        while is_more:
            if not is_begun:
                packed = packed.lstrip(b"\0")  # padding is allowed after a member
            is_begun = is_begun or bool(packed)
            piece = await asyncio.to_thread(_decompressed, unpacker, packed, source.shown(key))
            if piece:
                yield piece
            packed = unpacker.unconsumed_tail
            if unpacker.eof:
                packed, unpacker, is_begun = unpacker.unused_data, zlib.decompressobj(wbits=31), False
            is_more = bool(packed) or len(piece) == _PIECE_BYTES
    if is_begun:
        raise BadInput(f"{source.shown(key)} ends in the middle of its gzip stream; it is truncated: copy it again")


def _decompressed(unpacker: zlib._Decompress, packed: bytes, where: str) -> bytes:
    try:
        return unpacker.decompress(packed, _PIECE_BYTES)
    except zlib.error as error:
        raise BadInput(f"{where} is not a sound gzip file ({error}); compress or copy it again") from error


async def _raise_located(store: Store, key: str, error: csv.CsvError) -> NoReturn:
    line = 1
    for start in range(0, error.offset_bytes, READ_BYTES):
        line += bytes(await store.get_range(key, start, min(start + READ_BYTES, error.offset_bytes))).count(b"\n")
    place = f"{store.shown(key)}, line {line}" + (f", column {error.column}" if error.column else "")
    hint = "; tilefleet reads CSV without a header line" if line == 1 and "is not a number" in error.problem else ""
    raise BadInput(f"{place}: {error.problem}{hint}") from None
