"""Freivalds' check of an integer block: C·X ≡ Σ A·(B·X) modulo 2^width, with X of zeros and ones.

**What is caught.** The identity holds exactly modulo 2^width when C does. Let E = C - A·B be the error of a row. The first
column of X is all ones: one wrong element in a row, whatever bits of it, is *always* caught, for E·1 is that error. Every other
column misses a row that is wrong in any way with probability at most 1/2: take 2^t, the highest power that divides all of
E; some E_j / 2^t is odd, and for the other elements of the column fixed, at most one of its two values of x_j makes the sum
even. So m random columns miss with probability at most 2^-m: 2^-20 with the 20 that are used unless told otherwise. (A random
modulus that is prime would be wrong: results that wrapped do not obey it.)

The check's own products go through float64 BLAS under the proof of ``exact``, on pieces that stay in the cache, and from
the panels themselves: nothing that the product made is used again.
"""

from __future__ import annotations

import numpy as np

from tilefleet.errors import WrongResult
from workerd.kernels.exact import FLOAT32_LIMIT, choose_split, digits, magnitude
from workerd.kernels.pieces import pieces

N_RANDOM_VECTORS = 20


def check_vectors(n: int, n_vectors: int, seed: int) -> np.ndarray:
    """int64 zeros and ones of shape (n, 1 + n_vectors), the first column all ones; the same for a seed for ever."""
    words = np.random.Philox(key=seed).random_raw(n).astype(np.uint64)
    bits = (words[:, None] >> np.arange(n_vectors, dtype=np.uint64)) & np.uint64(1)
    return np.concatenate([np.ones((n, 1), np.int64), bits.astype(np.int64)], axis=1)


def multiply(panel: np.ndarray, x: np.ndarray, width: int) -> np.ndarray:
    """``panel[m, k] @ x[k, v]`` modulo 2^width as int64 in [-2^(width-1), 2^(width-1)); both integer or bool, v small."""
    (m, k), v = panel.shape, x.shape[1]
    split = choose_split(magnitude(panel), magnitude(x), max(k, 1), width)
    if split.n_a == split.n_b == 1 and split.pairs[0][-1] <= FLOAT32_LIMIT:
        return wrap(_multiply_small(panel, x).view(np.uint64), width)
    x_digits = digits(x, split.bits_b, split.n_b)
    sums = np.zeros((m, v), np.uint64)
    for part in pieces(panel):
        panel_digits = digits(panel[part], split.bits_a, split.n_a)
        for shift, i, j, _ in split.pairs:
            exact = panel_digits[i] @ x_digits[j][part[1]]
            sums[part[0]] += exact.astype(np.int64).view(np.uint64) << np.uint64(shift)
    return wrap(sums, width)


def _multiply_small(panel: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The same where all sums are exact in float32, in half the time; not wrapped."""
    sums, narrow = np.zeros((panel.shape[0], x.shape[1]), np.int64), x.astype(np.float32)
    for part in pieces(panel):
        sums[part[0]] += (panel[part].astype(np.float32) @ narrow[part[1]]).astype(np.int64)
    return sums


def wrap(x: np.ndarray, width: int) -> np.ndarray:
    """uint64 values as the int64 in [-2^(width-1), 2^(width-1)) that is congruent modulo 2^width."""
    spare = 64 - width
    return (x << np.uint64(spare)).view(np.int64) >> np.int64(spare)


class IntegerCheck:
    """The check of one block; ``add`` each panel, then ``finish``. ``width`` is the number of bits of an element."""

    def __init__(self, rows: int, cols: int, width: int, seed: int, n_vectors: int = N_RANDOM_VECTORS) -> None:
        self._width = width
        self._x = check_vectors(cols, n_vectors, seed)
        self._sums = np.zeros((rows, 1 + n_vectors), np.int64)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Take up a[rows, kc] @ b[kc, cols]."""
        self._sums += multiply(a, multiply(b, self._x, self._width), self._width)

    def finish(self, block: np.ndarray) -> None:
        """Raises WrongResult naming the first row of ``block`` that is not Σ a @ b modulo 2^width."""
        expected = wrap(self._sums.view(np.uint64), self._width)
        wrong = (multiply(block, self._x, self._width) != expected).any(axis=1)
        if wrong.any():
            raise WrongResult(
                f"row {int(np.flatnonzero(wrong)[0])} of the block of {block.shape[0]} x {block.shape[1]} "
                "does not agree with its operands"
            )
