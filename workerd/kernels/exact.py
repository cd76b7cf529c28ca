"""Integer products through floating-point BLAS, exact modulo 2^width.

**Proof.** (1) *A float gemm of small integers is exact.* If |a| ≤ α and |b| ≤ β are integers, every product and every
partial sum of k products, in any order, with or without fused multiply-add, is an integer of at most k·α·β. float64 holds
all integers up to 2^53 (float32: 2^24), so when k·α·β ≤ 2^53 nothing is ever rounded. The same holds for a sum that goes on
over several panels, as long as the sum of their bounds stays below.

(2) *Larger integers are cut into digits.* With digits of ``bits`` bits, v = Σ dᵢ·2^(bits·i), where |dᵢ| ≤ 2^(bits−1) but
for the last, which is what remains: |d_last| ≤ (|v| >> bits·last) + 1. Then A·B = Σᵢⱼ (Aᵢ·Bⱼ)·2^(bits_a·i + bits_b·j),
each Aᵢ·Bⱼ exact by (1) (Ozaki et al. 2012, doi 10.1007/s11075-011-9478-1). Arithmetic on v is in int64 with wrap-around,
so the digits add up to v modulo 2^64; a uint64 enters as the int64 of the same bits.

(3) *The sum is kept modulo 2^64*, and 2^width divides 2^64: so its low ``width`` bits are those of NumPy's result, which
wraps at every step (wrapping is a ring homomorphism). Pairs with shift ≥ width are 0 modulo 2^width and are left out.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from workerd.kernels import blas
from workerd.kernels.pieces import pieces

FLOAT32_LIMIT = 1 << 24
FLOAT64_LIMIT = 1 << 53
DIGIT_DEPTH = 512  # depth of k at which digits are cut: bounds their memory and the digits' growth with k


class Split(NamedTuple):
    """How both factors are cut: number of digits and bits per digit; ``pairs`` are (shift, i, j, bound), low shifts first."""

    n_a: int
    bits_a: int
    n_b: int
    bits_b: int
    pairs: tuple[tuple[int, int, int, int], ...]


def magnitude(x: np.ndarray) -> int:
    """Largest |element| of an integer or bool array, 0 when it is empty; uint64 from 2^63 on counts as 2^63 (as int64)."""
    if x.size == 0:
        return 0
    if x.dtype == bool:
        return 1
    return min(max(int(x.max()), -int(x.min())), 1 << 63)


@functools.lru_cache(maxsize=1024)
def choose_split(a_max: int, b_max: int, k: int, width: int) -> Split:
    """The cut with the fewest products whose every product is exact in float64, for sums over ``k``, modulo 2^width."""
    splits = (_split(a_max, b_max, n_a, n_b, k, width) for n_a in range(1, 9) for n_b in range(1, 9))
    fitting = [split for split in splits if all(bound <= FLOAT64_LIMIT for *_, bound in split.pairs)]
    return min(fitting, key=lambda split: (len(split.pairs), split.n_a + split.n_b))


def _split(a_max: int, b_max: int, n_a: int, n_b: int, k: int, width: int) -> Split:
    (bits_a, bounds_a), (bits_b, bounds_b) = _digit_bounds(a_max, n_a), _digit_bounds(b_max, n_b)
    pairs = sorted(
        (bits_a * i + bits_b * j, i, j, k * bound_a * bound_b)
        for i, bound_a in enumerate(bounds_a)
        for j, bound_b in enumerate(bounds_b)
        if bits_a * i + bits_b * j < width
    )
    return Split(n_a, bits_a, n_b, bits_b, tuple(pairs))


def _digit_bounds(largest: int, count: int) -> tuple[int, list[int]]:
    if count == 1:
        return 0, [largest]
    bits = -(-(largest.bit_length() + 1) // count)
    return bits, [1 << (bits - 1)] * (count - 1) + [(largest >> bits * (count - 1)) + 1]


def digits(x: np.ndarray, bits: int, count: int) -> list[np.ndarray]:
    """``x`` as ``count`` float64 arrays of its own memory order with x ≡ Σ dᵢ·2^(bits·i) modulo 2^64."""
    if count == 1:
        return [x.astype(np.float64, order="K")]
    cut = [np.empty_like(x, np.float64, subok=False) for _ in range(count)]
    half = 1 << (bits - 1)
    for part in pieces(x):
        rest = x[part].astype(np.int64, order="K")
        for digit in cut[:-1]:
            low = rest + half
            low &= (1 << bits) - 1
            low -= half
            digit[part] = low
            rest -= low
            rest >>= bits
        cut[-1][part] = rest
    return cut


class ModularSum:
    """Σ a @ b of integer panels modulo 2^width, as one C-ordered block.

    A float accumulator takes products in place for as long as the bound of what it holds stays exact; then it is emptied
    into a 64-bit one. Small integers never need the second.
    """

    def __init__(self, shape: tuple[int, int], width: int) -> None:
        self._shape = shape
        self._width = width
        self._float: np.ndarray | None = None
        self._shift = 0
        self._bound = 0
        self._total: np.ndarray | None = None

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add ``a[m, k] @ b[k, n]``."""
        k = a.shape[1]
        a_max, b_max = magnitude(a), magnitude(b)
        bound = k * a_max * b_max
        if bound <= FLOAT64_LIMIT:
            dtype = self._dtype_for(bound)
            self._multiply(a.astype(dtype, order="K"), b.astype(dtype, order="K"), 0, bound)
            return
        for k0 in range(0, k, DIGIT_DEPTH):
            part = slice(k0, min(k0 + DIGIT_DEPTH, k))
            self._add_split(a[:, part], b[part], choose_split(a_max, b_max, part.stop - k0, self._width))

    def _add_split(self, a: np.ndarray, b: np.ndarray, split: Split) -> None:
        a_digits, b_digits = digits(a, split.bits_a, split.n_a), digits(b, split.bits_b, split.n_b)
        goes_on = self._float is not None and self._shift == split.pairs[-1][0]
        for shift, i, j, bound in reversed(split.pairs) if goes_on else split.pairs:  # from the shift where the last part ended
            self._multiply(a_digits[i], b_digits[j], shift, bound)

    def _dtype_for(self, bound: int) -> type[np.floating]:
        """float32 BLAS is twice as fast, where it is exact."""
        is_narrow = self._float is None or self._float.dtype == np.float32
        held = self._bound if self._shift == 0 else 0
        return np.float32 if is_narrow and held + bound <= FLOAT32_LIMIT else np.float64

    def _multiply(self, a: np.ndarray, b: np.ndarray, shift: int, bound: int) -> None:
        limit = FLOAT32_LIMIT if a.dtype == np.float32 else FLOAT64_LIMIT
        if self._float is not None and self._float.dtype != a.dtype:
            self._empty(a.dtype)
        if self._float is not None and (self._shift != shift or self._bound + bound > limit):
            self._empty(a.dtype)
        if self._float is None:
            self._float = np.zeros(self._shape, a.dtype)
        blas.accumulate(a, b, self._float)
        self._shift, self._bound = shift, self._bound + bound

    def _empty(self, next_dtype: np.dtype) -> None:
        """Make room in the float accumulator: widen it, or move what it holds into the 64-bit one."""
        assert self._float is not None  # noqa: S101 - for the type checker; the caller has looked
        if self._total is None and self._shift == 0 and self._float.dtype == np.float32 and next_dtype == np.float64:
            self._float = self._float.astype(np.float64)
            return
        if self._total is None and self._bound:
            self._total = np.zeros(self._shape, np.uint64)
        if self._total is not None and self._bound:
            for part in pieces(self._float):
                whole = self._float[part].astype(np.int64).view(np.uint64)
                whole <<= np.uint64(self._shift)
                self._total[part] += whole
                self._float[part] = 0
        self._bound = 0
        if self._float.dtype != next_dtype:
            self._float = None

    def result(self, dtype: np.dtype) -> np.ndarray:
        """The block, wrapped to ``dtype``; for bool, whether the count (exact below 2^64) is not 0. The sum may not go on."""
        if self._total is None:
            sums = self._float if self._float is not None else np.zeros(self._shape, np.float32)
        else:
            self._empty(self._total.dtype)
            sums = self._total
        self._float = None
        block = np.empty(self._shape, dtype)
        for part in pieces(sums):
            whole = sums[part].astype(np.int64) if self._total is None else sums[part]
            block[part] = whole != 0 if dtype.kind == "b" else whole.astype(dtype)
        return block
