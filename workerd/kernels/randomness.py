"""Random matrices that are the same for a seed whatever the fleet, the tiles or the shape.

The plane is cut in fixed cells of 256 × 256; cell (i, j) has a stream of its own, Philox4x64-10 (Salmon et al., SC 2011,
"Parallel random numbers: as easy as 1, 2, 3") with the seed as key and (0, 0, i, j) as counter. Element e of a cell, counted
row by row through all 256 columns, owns words 2e and 2e + 1 of its stream. So a cell at the edge of a matrix is a whole cell,
cut: two matrices of one seed, type and range agree on their common corner.

Words become elements by arithmetic written here, not by ``numpy.random.Generator``, whose methods may give other numbers in
another NumPy (NEP 19); the raw stream of a bit generator is the published algorithm's and may not. Golden hashes in the
tests hold both. Integers come by multiply-shift (Lemire, doi 10.1145/3230636) without rejection: no value's probability
is off by more than a 2^-32nd part of itself.
"""

from __future__ import annotations

import numpy as np

from tilefleet.dtypes import Scalar
from tilefleet.matrix import Grid, Rect
from tilefleet.random_range import parse_range

CELL = 256
_LOW_HALF = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def random_block(
    rect: Rect, shape: tuple[int, int], dtype: np.dtype, low: str | Scalar, high: str | Scalar, seed: int
) -> np.ndarray:
    """Elements of ``rect`` of the random matrix of that seed, in [low, high); complex: each part in the range of its parts.

    Raises BadInput where ``parse_range`` does.
    """
    start, end = parse_range(low, high, dtype)
    block = np.empty(rect.shape, dtype)
    grid = Grid(shape, (CELL, CELL))
    for i, j in grid.tiles_in(rect):
        wanted = grid.rect(i, j).intersect(rect)
        first_words, second_words = _words(seed, i, j, wanted)
        block[wanted.slices_within(rect)] = _elements(first_words, second_words, dtype, start, end)
    return block


def _words(seed: int, i: int, j: int, wanted: Rect) -> tuple[np.ndarray, np.ndarray]:
    """Both words of each element of ``wanted``, which lies in cell (i, j)."""
    rows = wanted.row1 - i * CELL
    stream = np.random.Philox(key=seed % 2**128, counter=np.array([0, 0, i, j], np.uint64))
    words = stream.random_raw(2 * rows * CELL).reshape(rows, CELL, 2)
    cut = words[wanted.row0 - i * CELL :, wanted.col0 - j * CELL : wanted.col1 - j * CELL]
    return cut[..., 0], cut[..., 1]


def _elements(first: np.ndarray, second: np.ndarray, dtype: np.dtype, low: Scalar, high: Scalar) -> np.ndarray:
    if dtype.kind == "c":
        part = np.dtype(np.float32 if dtype == np.complex64 else np.float64)
        out = np.empty(first.shape, dtype)
        out.real = _floats(first, part, low.real, high.real)
        out.imag = _floats(second, part, low.imag, high.imag)
        return out
    if dtype.kind == "f":
        return _floats(first, dtype, float(low.real), float(high.real))
    return _integers(first, second, dtype, int(low.real), int(high.real))


def _floats(words: np.ndarray, dtype: np.dtype, low: float, high: float) -> np.ndarray:
    """low·(1 - u) + high·u with u of 24 or 53 bits in [0, 1); neither difference nor rounding leaves [low, high)."""
    bits = np.finfo(dtype).nmant + 1
    u = (words >> np.uint64(64 - bits)).astype(dtype) * dtype.type(2.0**-bits)
    start, end = dtype.type(low), dtype.type(high)
    values = start * (dtype.type(1) - u) + end * u
    return np.asarray(np.clip(values, start, np.nextafter(end, start)))


def _integers(first: np.ndarray, second: np.ndarray, dtype: np.dtype, low: int, high: int) -> np.ndarray:
    count = high - low
    if count == 2**64:
        offsets = first.copy()
    elif count <= 2**32:
        offsets = _high_word(first, count)
    else:  # 128 bits × count: its highest word
        middle = first * np.uint64(count)
        offsets = _high_word(first, count) + (middle + _high_word(second, count) < middle)
    return (offsets + np.uint64(low % 2**64)).astype(dtype)


def _high_word(words: np.ndarray, count: int) -> np.ndarray:
    """⌊words · count / 2^64⌋ for count < 2^64, by halves of 32 bits."""
    upper, lower = words >> _32, words & _LOW_HALF
    count_upper, count_lower = np.uint64(count >> 32), np.uint64(count & 0xFFFFFFFF)
    cross = upper * count_lower + ((lower * count_lower) >> _32)
    if not count_upper:
        return cross >> _32
    other = lower * count_upper + (cross & _LOW_HALF)
    return np.asarray(upper * count_upper + (cross >> _32) + (other >> _32))
