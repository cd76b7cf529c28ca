"""Element by element, exactly as NumPy computes it: Python scalars do not widen arrays beyond their kind (NEP 50).

``None`` means that a step is absent, which is not the same as a factor of 1 (``1.0 * int_array`` is float). Overflow, NaN and
the like are the user's data and give NumPy's values without its warnings. Work goes piece by piece: each step's result stays in
the cache, and beside the operands only the result takes memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilefleet.dtypes import Scalar
from workerd.kernels.pieces import pieces

Index = Any


def combine(
    terms: Sequence[tuple[Scalar | None, np.ndarray]],
    is_subtraction: bool,
    dtype: np.dtype | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """``f0 * X0``, or ``f0 * X0 + f1 * X1``, or with - for +; all X of one shape; cast to ``dtype`` as ``astype`` does.

    One term that needs neither factor nor cast is given back as it is, not copied; any other result is ``out``, where that is
    given and of its type, or a new C-ordered array.
    """
    (factor, x), *rest = terms
    if not rest and factor is None and (dtype is None or dtype == x.dtype):
        return x

    def compute(part: Index, out: np.ndarray | None) -> np.ndarray:
        value = _scaled(factor, x[part], None if rest else out)
        for other_factor, other in rest:
            scaled = _scaled(other_factor, other[part])
            value = np.subtract(value, scaled, out=out) if is_subtraction else np.add(value, scaled, out=out)
        return value

    return _piecewise(compute, x.shape, out, dtype)


def epilogue(product: np.ndarray, alpha: Scalar | None, beta: Scalar | None, c: np.ndarray | None) -> np.ndarray:
    """``alpha * product + beta * c``, promoted step by step as NumPy does.

    ``product`` is used up: where the result has its dtype, it is overwritten and given back.
    """
    if alpha is None and c is None:
        return product

    def compute(part: Index, out: np.ndarray | None) -> np.ndarray:
        scaled = _scaled(alpha, product[part])
        return scaled if c is None else np.add(scaled, _scaled(beta, c[part]), out=out)

    return _piecewise(compute, product.shape, product)


def _piecewise(
    compute: Callable[[Index, np.ndarray | None], np.ndarray],
    shape: tuple[int, ...],
    reusable: np.ndarray | None,
    dtype: np.dtype | None = None,
) -> np.ndarray:
    """``compute`` gives a piece of the result; it may put it right into the array that it gets for that, or another."""
    with np.errstate(all="ignore"):
        computed = compute(np.s_[:0], None).dtype
        dtype = dtype or computed
        is_real_part = computed.kind == "c" and dtype.kind not in "bc"  # what a cast keeps, with a warning
        is_reused = reusable is not None and reusable.dtype == dtype and reusable.flags.writeable
        out = reusable if reusable is not None and is_reused else np.empty(shape, dtype)
        for part in pieces(out):
            target = out[part] if dtype == computed else None
            piece = compute(part, target)
            if piece is not target:
                out[part] = piece.real if is_real_part else piece
    return out


def _scaled(factor: Scalar | None, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    return x if factor is None else np.asarray(np.multiply(factor, x, out=out))


def count_differences(actual: np.ndarray, expected: np.ndarray) -> tuple[int, int]:
    """Elements that differ (NaN equals NaN, -0.0 equals 0.0) and the first row with one, or -1."""
    n_differences, first_row = 0, -1
    for part in pieces(actual):
        with np.errstate(all="ignore"):
            ours, theirs = actual[part], expected[part]
            differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
        if differs.any():
            row = part[0].start + int(np.flatnonzero(differs.any(axis=1))[0])
            first_row = row if first_row < 0 else min(first_row, row)
            n_differences += int(np.count_nonzero(differs))
    return n_differences, first_row
