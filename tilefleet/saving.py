"""Copies of a matrix that the client makes itself: ``tilefleet get``, and results of a far fleet that go to a local file.

The rule: whole or not at all under the name that was asked for, and never more than ``BAND_BYTES`` of elements at a time
(plus the tiles they are cut from, which a band that is thinner than they are reads more than once).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from tilefleet import ownership
from tilefleet.destination import check_output, locate_output
from tilefleet.errors import TilefleetError
from tilefleet.formats import npy
from tilefleet.matrix import Grid, MatrixRef, Rect, ceil_div, default_tile
from tilefleet.ownership import Owner
from tilefleet.records import Output
from tilefleet.store import Buffer, Store, Stores, file_url, path_of
from tilefleet.writing import encode_band, publish_directory, publish_zarr, write_file, write_tiles

if TYPE_CHECKING:
    from tilefleet.lazy import LazyMatrix

BAND_BYTES = 64 * 2**20
TEXT_ELEMENTS = 2**18  # made text at a time: a float64 of 8 bytes takes up to 25 as text, and more on the way there
CONCURRENCY = 4


async def save(stores: Stores, matrix: LazyMatrix, out: str | os.PathLike[str], *, overwrite: bool = False) -> str:
    """Write ``matrix`` to a local path or URL; returns the URL.

    Raises BadInput (a name that says no format, or that of the matrix itself), AlreadyExists, NotFound, NotAllowed.
    """
    output = locate_output(out, is_overwrite=overwrite)
    assert output.url is not None  # noqa: S101 - out was given
    await check_output(stores, output, [matrix.ref.url], fleet_store="")
    if output.format == "zarr":
        await _save_zarr(stores, matrix, output.url, is_overwrite=overwrite)
    else:
        await _save_file(stores, matrix, output, output.url)
    return output.url


async def _save_zarr(stores: Stores, matrix: LazyMatrix, url: str, *, is_overwrite: bool) -> None:
    token = secrets.token_hex(6)
    if not url.startswith("file:"):
        await _save_remote(stores, matrix, url, token, is_overwrite=is_overwrite)
        return
    out = path_of(url)
    staged = out.with_name(f".{out.name}.partial-{token}")
    try:
        await _write_array(stores.open(file_url(staged)), matrix, url, token)
        await asyncio.to_thread(publish_directory, staged, out, token, is_overwrite=is_overwrite)
    finally:
        await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)


async def _save_remote(stores: Stores, matrix: LazyMatrix, url: str, token: str, *, is_overwrite: bool) -> None:
    store = stores.open(url)
    await ownership.claim(stores, store, Owner(token), is_overwrite=is_overwrite)
    try:
        await _write_array(store, matrix, url, token)
    except BaseException:
        with suppress(TilefleetError):
            await asyncio.shield(ownership.give_up(store, token))
        raise


async def _write_array(store: Store, matrix: LazyMatrix, url: str, token: str) -> None:
    tile = matrix.tile or default_tile(matrix.shape, matrix.dtype.itemsize)
    ref = MatrixRef(url, "zarr", matrix.shape, matrix.dtype.name, tile, is_ours=True)
    for rect in _groups(ref.grid, matrix.dtype.itemsize):
        block = await matrix.read(rect, concurrency=CONCURRENCY)
        await write_tiles(store, ref, rect, block, operation=token, concurrency=CONCURRENCY)
    if not url.startswith("file:"):
        await ownership.check(store, token)
    await publish_zarr(store, ref, token)


def _groups(grid: Grid, itemsize: int) -> Iterator[Rect]:
    """Runs of neighbouring tiles of one tile row, of at most ``BAND_BYTES`` (but at least one tile)."""
    tile_bytes = grid.tile[0] * grid.tile[1] * itemsize
    n_together = max(1, BAND_BYTES // tile_bytes)
    for i in range(grid.n_rows):
        for j in range(0, grid.n_cols, n_together):
            first, last = grid.rect(i, j), grid.rect(i, min(j + n_together, grid.n_cols) - 1)
            yield Rect(first.row0, first.row1, first.col0, last.col1)


async def _save_file(stores: Stores, matrix: LazyMatrix, output: Output, url: str) -> None:
    pieces = _pieces(matrix, output)
    if url.startswith("file:"):
        await write_file(pieces, path_of(url), secrets.token_hex(6), is_overwrite=output.is_overwrite)
        return
    store, key = stores.locate(url)
    await store.put_stream(key, pieces)


async def _pieces(matrix: LazyMatrix, output: Output) -> AsyncIterator[Buffer]:
    compressor = zlib.compressobj(level=6, wbits=31) if output.is_gzip else None  # 31: gzip
    if output.format == "npy":
        yield npy.header_bytes(matrix.shape, matrix.dtype)
    async for band in _encoded(matrix, "npy" if output.format == "npy" else "csv"):
        yield await asyncio.to_thread(compressor.compress, band) if compressor else band
    if compressor:
        yield compressor.flush()


async def _encoded(matrix: LazyMatrix, kind: Literal["npy", "csv"]) -> AsyncIterator[Buffer]:
    step = _band_rows(matrix)
    rows_at_once = step if kind == "npy" else max(1, TEXT_ELEMENTS // max(1, matrix.shape[1]))
    for row in range(0, matrix.shape[0], step):
        rect = Rect(row, min(row + step, matrix.shape[0]), 0, matrix.shape[1])
        band = await matrix.read(rect, concurrency=CONCURRENCY)
        for first in range(0, len(band), rows_at_once):
            yield await asyncio.to_thread(encode_band, band[first : first + rows_at_once], kind)
        del band  # or it would stay until the next one is there


def _band_rows(matrix: LazyMatrix) -> int:
    """Rows of a band: whole rows of tiles where these are small enough, else an even part of one."""
    row_bytes = max(1, matrix.shape[1] * matrix.dtype.itemsize)
    tile_rows = matrix.tile[0] if matrix.tile else 1
    if tile_rows * row_bytes <= BAND_BYTES:
        return BAND_BYTES // (tile_rows * row_bytes) * tile_rows
    return max(1, tile_rows // ceil_div(tile_rows * row_bytes, BAND_BYTES))
