"""A look at a matrix: its corner, and the size of a CSV. Nothing is started for it, and little is read.

The rule: the corner of a CSV takes its first lines only, so its dtype is what those need; ``scanned`` reads the whole file,
a few MiB at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import numpy as np

from tilefleet.errors import BadInput
from tilefleet.formats import csv
from tilefleet.formats.csv_reading import unpacked, whole_lines
from tilefleet.lazy import LazyMatrix
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.store import Stores, shown


async def corner(matrix: LazyMatrix, rows: int, cols: int) -> np.ndarray:
    """The first rows and columns, or fewer where there are fewer."""
    return await matrix.read(Rect(0, min(rows, matrix.shape[0]), 0, min(cols, matrix.shape[1])))


async def csv_corner(stores: Stores, ref: MatrixRef, rows: int, cols: int) -> np.ndarray:
    """The first rows and columns of a CSV, from its first lines. Raises BadInput for lines that are not numbers."""
    text = b""
    async for more in _texts(stores, ref):
        text += more
        starts = csv.row_starts(text)
        if len(starts) >= rows:
            text = text[: starts[rows]] if len(starts) > rows else text
            break
    try:
        found = await asyncio.to_thread(csv.scan, text)
        return (await asyncio.to_thread(csv.parse, text, found.cols, np.dtype(found.dtype)))[:, :cols]
    except csv.CsvError as error:
        raise _located(ref, error, text) from None


async def scanned(stores: Stores, ref: MatrixRef) -> MatrixRef:
    """The same CSV with its shape and the type its numbers need. Raises BadInput for ragged lines and what is no number."""
    rows, n_lines, found = 0, 0, csv.Scanned(0, "bool")
    async for text in _texts(stores, ref):
        try:
            found = await asyncio.to_thread(csv.scan, text, *found)
        except csv.CsvError as error:
            raise _located(ref, error, text, n_lines) from None
        rows += len(await asyncio.to_thread(csv.row_starts, text))
        n_lines += text.count(b"\n")
    return msgspec.structs.replace(ref, shape=(rows, found.cols), dtype=found.dtype)


async def _texts(stores: Stores, ref: MatrixRef) -> AsyncIterator[bytes]:
    """The file in texts of whole lines, unpacked where it is compressed."""
    store, key = stores.locate(ref.url)
    if not ref.is_gzip:
        async for _, text in whole_lines(store, key, 0, ref.size_bytes, ref.size_bytes):
            yield text
        return
    held = b""
    async for piece in unpacked(store, key):
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield held + piece[:cut]
            held = b""
        held += piece[cut:]
    if held:
        yield held


def _located(ref: MatrixRef, error: csv.CsvError, text: bytes, n_lines_before: int = 0) -> BadInput:
    line = n_lines_before + text.count(b"\n", 0, error.offset_bytes) + 1
    column = f", column {error.column}" if error.column else ""
    hint = "; tilefleet reads CSV without a header line" if line == 1 and "is not a number" in error.problem else ""
    return BadInput(f"{shown(ref.url)}, line {line}{column}: {error.problem}{hint}")
