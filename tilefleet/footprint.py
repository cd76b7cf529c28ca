"""Memory that one job needs at its peak in a worker, from its message alone: pure arithmetic, an upper bound.

The planner sizes blocks by it, the worker's budget admits jobs by it; tests hold the kernels to it with tracemalloc. What is
counted is data: arrays, fetched and encoded bytes. The interpreter and its libraries are the worker's own overhead.
A tile is held twice for a moment, as fetched and in its place; at most ``tiles_at_once`` of them per operand.
"""

from __future__ import annotations

import functools

import msgspec
import numpy as np

from tilefleet.dtypes import added_dtype, parse_scalar, scaled_dtype
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import (
    Check,
    Elementwise,
    Epilogue,
    Export,
    Gemm,
    Gunzip,
    ParseCsv,
    Project,
    Publish,
    Random,
    Reduce,
    ScanCsv,
    Work,
)

MIB = 2**20
CONCURRENCY = 16  # tiles in flight per operand: the default of worker.concurrency
IN_FLIGHT_BYTES = 32 * MIB  # … and no more bytes than that: four tiles of 8 MiB for each operand of each job fill a NIC
STREAM_BYTES = 64 * MIB  # gunzip, joining parts: a few pieces of 8 MiB and their compressed form
PIECES_BYTES = 4 * MIB  # cache-sized buffers and temporaries of the kernels
CSV_CAST_BYTES = 48 * MIB  # Arrow's arrays while 1 MiB of text is cast, or 2^17 elements are encoded
STEP_BYTES = MIB // 2  # of a tile on this machine's disk: as in tilefleet.local_tiles
FETCH_BYTES = 8 * MIB  # ranged reads of npy files
DIGIT_DEPTH = 512  # as in workerd.kernels.exact
N_DIGIT_ARRAYS = 6  # at most 3 + 3 digits of two 64-bit panels
N_VECTORS = 21  # check vectors of integers
RECOMPUTED = (512, 2048, 512)  # rows, columns, depth of the blocks in which ``verify`` computes again what has no faster proof


def peak_bytes(work: Work) -> int:
    """Bytes one job holds at its peak."""
    return _peak(work) + PIECES_BYTES


@functools.singledispatch
def _peak(work: Work) -> int:
    raise TypeError(f"no footprint is known for {type(work).__name__}")


@_peak.register
def _gemm(work: Gemm) -> int:
    dtype = np.dtype(work.product_dtype)
    depth = min(work.panel_k, work.k1 - work.k0)
    block = work.rect.size * dtype.itemsize
    streaming = _streaming(work, work.rect, depth)
    return max(streaming, block + _epilogue(work.epilogue, dtype, work.rect), _final(work, dtype) + _written(work.out, work.rect))


def _final(work: Gemm | Reduce, dtype: np.dtype) -> int:
    return work.rect.size * _epilogue_dtype(work.epilogue, dtype).itemsize


def _streaming(work: Gemm, rect: Rect, depth: int) -> int:
    """Two sets of panels (one for one panel), the tiles that fill one of them, and what the kernel holds meanwhile."""
    a, b = _dtype(work.a), _dtype(work.b)
    panels = rect.rows * depth * a.itemsize + depth * rect.cols * b.itemsize
    a_rect, b_rect = Rect(rect.row0, rect.row1, work.k0, work.k0 + depth), Rect(work.k0, work.k0 + depth, rect.col0, rect.col1)
    arriving = _fetched(work.a, a_rect) + _fetched(work.b, b_rect)
    product = np.dtype(work.product_dtype)
    kernel = _float_kernel if product.kind in "fc" else _integer_kernel
    n_sets = 2 if depth < work.k1 - work.k0 else 1
    return n_sets * panels + arriving + kernel(rect, depth, work.k1 - work.k0, a, b, product)


def _float_kernel(rect: Rect, depth: int, k: int, a: np.dtype, b: np.dtype, product: np.dtype) -> int:
    """The block; panels of another dtype once more; vectors of the check; a byte each where NaN and inf must be tracked."""
    casts = (rect.rows * depth * (a != product) + depth * rect.cols * (b != product)) * product.itemsize
    vectors = 16 * (8 * rect.rows + 4 * rect.cols + 6 * depth)
    masks = 2 * (rect.rows + rect.cols) * depth
    return rect.size * (product.itemsize + 1) + vectors + max(casts, masks)


def _integer_kernel(rect: Rect, depth: int, k: int, a: np.dtype, b: np.dtype, product: np.dtype) -> int:
    """Panels as float64, or their digits; the float accumulator and, beyond 2^53, the 64-bit one; the check's vectors."""
    bound = k * _largest(a) * _largest(b)
    floats = 8 * depth * (rect.rows + rect.cols)
    if bound > 2**53:
        floats = max(floats, 8 * N_DIGIT_ARRAYS * min(depth, DIGIT_DEPTH) * max(rect.rows, rect.cols))
    held = 8 + max(8 if bound > 2**53 else 0, 8 if product.kind == "b" else product.itemsize)
    vectors = 8 * N_VECTORS * (6 * rect.rows + 6 * rect.cols + 8 * depth)
    return held * rect.size + floats + vectors


def _largest(dtype: np.dtype) -> int:
    if dtype.kind == "b":
        return 1
    return max(int(np.iinfo(dtype).max), -int(np.iinfo(dtype).min))


@_peak.register
def _reduce(work: Reduce) -> int:
    dtype = np.dtype(str(work.parts.dtype))
    adding = 3 * work.rect.size * dtype.itemsize + _fetched(Operand(work.parts), work.rect)
    finishing = work.rect.size * dtype.itemsize + _epilogue(work.epilogue, dtype, work.rect)
    return max(adding, finishing, _final(work, dtype) + _written(work.out, work.rect))


def is_by_tiles(work: Elementwise) -> bool:
    """Whether each tile of the result comes from the same raw tile of every operand, all on a disk of the machine's.

    Then they go from disk to disk one after the other, in bands that stay in a core's caches.
    """
    operands = [term.operand for term in work.terms]
    matrices = [work.out, *(operand.matrix for operand in operands)]
    if any(operand.is_transposed for operand in operands) or any(each.tile != work.out.tile for each in matrices):
        return False
    return all(each.format == "zarr" and each.layout != "codec" and each.url.startswith("file:") for each in matrices)


@_peak.register
def _elementwise(work: Elementwise) -> int:
    """Of tiles that go one after the other, one: another attempt, which may find it half made, reads it as a block."""
    tile = work.out.tile
    if tile is None or not is_by_tiles(work):
        return _of_block(work, work.rect)
    return _of_block(work, Rect(0, min(tile[0], work.rect.rows), 0, min(tile[1], work.rect.cols)))


def _of_block(work: Elementwise, rect: Rect) -> int:
    read = sum(rect.size * _dtype(term.operand).itemsize for term in work.terms)
    arriving = sum(_fetched(term.operand, rect) for term in work.terms)
    computed = rect.size * np.dtype(str(work.out.dtype)).itemsize  # cast piece by piece
    return read + max(arriving, computed + _written(work.out, rect))


@_peak.register
def _random(work: Random) -> int:
    """One cell of 256 × 256 takes about ten temporaries of 512 KiB."""
    return work.rect.size * np.dtype(str(work.out.dtype)).itemsize + 8 * MIB + _written(work.out, work.rect)


@_peak.register(Gunzip)
@_peak.register(Publish)
def _stream(work: Gunzip | Publish) -> int:
    return STREAM_BYTES


@_peak.register
def _scan_csv(work: ScanCsv) -> int:
    """The text, up to two copies of it, and 8 bytes and a few masks for each line, of two bytes at least."""
    piece = min(work.piece_bytes, work.byte1 - work.byte0)
    return 12 * piece + CSV_CAST_BYTES


@_peak.register
def _parse_csv(work: ParseCsv) -> int:
    """The text twice (fetched, cut), line offsets, elements as parsed and joined, tiles as they are written."""
    text = max(0, work.byte1 - work.byte0)
    block = work.rect.size * np.dtype(str(work.out.dtype)).itemsize
    return 2 * text + 32 * work.rect.rows + CSV_CAST_BYTES + max(2 * block, block + _written(work.out, work.rect))


@_peak.register
def _export(work: Export) -> int:
    dtype = np.dtype(str(work.source.dtype))
    band = work.rect.size * dtype.itemsize
    arriving = _fetched(Operand(work.source), work.rect)
    if work.format == "npy":
        return band + max(arriving, band)
    digits = {"b": 2, "i": 21, "u": 21, "f": 26, "c": 54}[
        dtype.kind
    ]  # with the separator; a float's longest is 24 digits and signs
    return band + max(arriving, 2 * digits * work.rect.size + CSV_CAST_BYTES)


@_peak.register
def _project(work: Project) -> int:
    band = work.rect.size * _dtype(work.b).itemsize
    return band + _fetched(work.b, work.rect) + 8 * N_VECTORS * (8 * work.rect.rows + 4 * work.rect.cols)


@_peak.register
def _check(work: Check) -> int:
    result = work.rect.size * np.dtype(str(work.result.dtype)).itemsize
    arriving = _fetched(Operand(work.result), work.rect)
    if work.elementwise is not None:
        return result + max(arriving, _of_block(work.elementwise, work.rect))
    if work.random is not None:
        return result + max(arriving, _peak(msgspec.structs.replace(work.random, rect=work.rect)))
    if work.product is None:
        return result + arriving
    return result + max(arriving, _projected(work, work.product), _recomputed(work.product, work.rect))


def _projected(work: Check, product: Gemm) -> int:
    """Two panels of A, C0, the projections of all of op(B), and the check's vectors."""
    k = product.k1 - product.k0
    depth = min(product.panel_k, k)
    panels = 2 * work.rect.rows * depth * _dtype(product.a).itemsize
    arriving = _fetched(product.a, Rect(work.rect.row0, work.rect.row1, product.k0, product.k0 + depth))
    result = work.rect.size * np.dtype(str(work.result.dtype)).itemsize
    added = _epilogue(product.epilogue, np.dtype(product.product_dtype), work.rect) + (result if product.epilogue else 0)
    return max(panels + arriving, added) + 8 * N_VECTORS * (3 * k + 8 * work.rect.rows + 6 * work.rect.cols)


def _recomputed(product: Gemm, rect: Rect) -> int:
    rows, cols, depth = RECOMPUTED
    block = Rect(0, min(rows, rect.rows), 0, min(cols, rect.cols))
    final = block.size * np.dtype(product.product_dtype).itemsize + _epilogue(
        product.epilogue, np.dtype(product.product_dtype), block
    )
    return max(_streaming(product, block, min(depth, product.k1 - product.k0)), final)


# ---- parts of the sums ----------------------------------------------------------------------------------------------


def _dtype(operand: Operand) -> np.dtype:
    return np.dtype(str(operand.matrix.dtype))


def _scalar(text: str | None) -> bool | int | float | complex | None:
    return None if text is None else parse_scalar(text)


def _epilogue_dtype(epilogue: Epilogue | None, product: np.dtype) -> np.dtype:
    if epilogue is None:
        return product
    dtype = scaled_dtype(_scalar(epilogue.alpha), product)
    if epilogue.c is None:
        return dtype
    return added_dtype(dtype, scaled_dtype(_scalar(epilogue.beta), _dtype(epilogue.c)))


def _epilogue(epilogue: Epilogue | None, product: np.dtype, rect: Rect) -> int:
    """What it takes beside the product's block: C0, and the result where it has another dtype."""
    if epilogue is None:
        return 0
    final = _epilogue_dtype(epilogue, product)
    result = 0 if final == product else rect.size * final.itemsize
    if epilogue.c is None:
        return result
    return rect.size * _dtype(epilogue.c).itemsize + max(result, _fetched(epilogue.c, rect))


def _fetched(operand: Operand, rect: Rect) -> int:
    """Bytes in flight while ``rect`` of op(X) is read: whole tiles, or ranges of an npy file; all of it when decoded by zarr."""
    ref = operand.matrix
    stored = rect.transposed if operand.is_transposed else rect
    if rect.size == 0 or ref.dtype is None:
        return 0
    itemsize = np.dtype(ref.dtype).itemsize
    if ref.format == "npy":
        return min(rect.size * itemsize, tiles_at_once(FETCH_BYTES) * FETCH_BYTES)
    if ref.layout == "codec":
        return rect.size * itemsize + _tiles(ref, stored)
    if ref.url.startswith("file:"):  # read right into its place; what is not wanted of it passes through a small buffer
        return _in_flight(ref, stored) * max(STEP_BYTES, ref.grid.tile[1] * itemsize)
    return _tiles(ref, stored)


def _written(ref: MatrixRef, rect: Rect) -> int:
    return _tiles(ref, rect)


def _tiles(ref: MatrixRef, rect: Rect) -> int:
    return _in_flight(ref, rect) * tile_bytes(ref) if ref.tile is not None and ref.dtype is not None else 0


def _in_flight(ref: MatrixRef, rect: Rect) -> int:
    """Tiles of ``rect`` at a time."""
    if rect.size == 0:
        return 0
    tm, tn = ref.grid.tile
    up, across = (rect.row1 - 1) // tm - rect.row0 // tm + 1, (rect.col1 - 1) // tn - rect.col0 // tn + 1
    at_once = CONCURRENCY if ref.layout == "codec" else tiles_at_once(tile_bytes(ref))  # zarr-python has its own mind about it
    return min(at_once, up * across)


def tile_bytes(ref: MatrixRef) -> int:
    """Length of the elements of a whole tile."""
    return ref.grid.tile[0] * ref.grid.tile[1] * np.dtype(str(ref.dtype)).itemsize


def tiles_at_once(n_bytes: int, concurrency: int = CONCURRENCY) -> int:
    """How many tiles of that size may be in flight for one operand."""
    return max(1, min(concurrency, IN_FLIGHT_BYTES // max(1, n_bytes)))
