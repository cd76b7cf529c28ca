"""``C[rows, cols] = f * op(X) ± g * op(Y)``: add, subtract, scale, transpose, and copying between layouts and types.

Tiles on a disk that lie alike go through the cache band by band; anything else is read, computed and written in blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import numpy as np

from tilefleet.dtypes import Scalar, parse_dtype, parse_scalar
from tilefleet.footprint import is_by_tiles
from tilefleet.matrix import Rect, tile_key
from tilefleet.messages import Elementwise
from tilefleet.reading import local_bands
from tilefleet.store import path_of
from tilefleet.writing import create_local
from workerd.context import Context, Outcome
from workerd.kernels import elementwise

BAND_BYTES = 2**19  # of each operand and of the result at a time: all of them stay in a core's caches


async def run(work: Elementwise, context: Context) -> Outcome:
    """Compute and commit one block."""
    if not is_by_tiles(work):
        await _whole(work, context, work.rect)
        return Outcome()
    for index in work.out.grid.tiles_in(work.rect):
        if not await _streamed(work, context, index):
            await _whole(work, context, work.out.grid.rect(*index))
    return Outcome()


async def _whole(work: Elementwise, context: Context, rect: Rect) -> None:
    await context.write(work.out, rect, await block(work, context, rect))


async def _streamed(work: Elementwise, context: Context, index: tuple[int, int]) -> bool:
    """Write a tile from disk to disk, through the cache alone; False when it was there already."""
    factors = [None if term.factor is None else parse_scalar(term.factor) for term in work.terms]
    n_bytes = await context.patiently(partial(context.compute, partial(_stream_tile, work, context, factors, index)))
    if n_bytes is None:
        return False
    rect = work.out.grid.rect(*index)
    context.clock.count("bytes_written", n_bytes)
    context.clock.count("bytes_read", sum(rect.size * parse_dtype(str(t.operand.matrix.dtype)).itemsize for t in work.terms))
    context.clock.count("flops", rect.size * _flops_per_element(factors))
    return True


def _stream_tile(work: Elementwise, context: Context, factors: list[Scalar | None], index: tuple[int, int]) -> int | None:
    """The bytes written. The tile has no name yet when the checksums of its operands are known, at the end of their bands."""
    matrices = [term.operand.matrix for term in work.terms]
    itemsize = max(parse_dtype(str(each.dtype)).itemsize for each in (work.out, *matrices))
    rows = max(1, BAND_BYTES // (work.out.grid.tile[1] * itemsize))
    sources = [local_bands(context.open(each.url), each, index, rows) for each in matrices]
    store, key = context.open(work.out.url), tile_key(*index)
    return create_local(path_of(store.url_of(key)), store.shown(key), work.out, _combined(work, factors, sources, rows))


def _combined(
    work: Elementwise, factors: list[Scalar | None], sources: list[Iterator[np.ndarray]], rows: int
) -> Iterator[np.ndarray]:
    """Bands of the result, in one buffer that the next band overwrites."""
    dtype = parse_dtype(str(work.out.dtype))
    buffer = np.empty((rows, work.out.grid.tile[1]), dtype)
    for bands in zip(*sources, strict=True):  # strict: reads each source to its end, where its checksum is
        n_rows, n_cols = bands[0].shape
        terms = list(zip(factors, bands, strict=True))
        yield elementwise.combine(terms, work.is_subtraction, dtype, out=buffer[:n_rows, :n_cols])


def _flops_per_element(factors: list[Scalar | None]) -> int:
    return len(factors) - 1 + sum(factor is not None for factor in factors)


async def block(work: Elementwise, context: Context, rect: Rect) -> np.ndarray:
    """``rect`` of the result, in the dtype of ``work.out``."""
    arrays = await asyncio.gather(*(context.read(term.operand, rect) for term in work.terms))
    factors = [None if term.factor is None else parse_scalar(term.factor) for term in work.terms]
    terms = list(zip(factors, arrays, strict=True))
    context.clock.count("flops", rect.size * _flops_per_element(factors))
    return await context.compute(partial(elementwise.combine, terms, work.is_subtraction, parse_dtype(str(work.out.dtype))))
