"""One block of a product, C[rows, cols] = Σ A[rows, kc] @ B[kc, cols] over panels, with NumPy's results, and checked.

Floats accumulate in place in BLAS; integers go through ``exact``; bool counts in integers and asks whether the count is 0.
"""

from __future__ import annotations

import numpy as np

from tilefleet.errors import WrongResult
from workerd.kernels import blas
from workerd.kernels.exact import ModularSum
from workerd.kernels.float_check import FloatCheck
from workerd.kernels.integer_check import IntegerCheck
from workerd.kernels.pieces import pieces


class BlockProduct:
    """Accumulates one block: ``add`` panels in any order, then ``finish`` once.

    rows, cols: shape of the block. k: how many columns of A will pass in all (for the bounds of the check).
    product_dtype: the dtype of NumPy's ``A @ B`` for these dtypes. seed: makes the check's vectors. memory: rows × cols
    elements of that dtype in which a block of floats is to lie, whatever was in them; others have memory of their own.
    """

    def __init__(
        self,
        rows: int,
        cols: int,
        k: int,
        a_dtype: np.dtype,
        b_dtype: np.dtype,
        product_dtype: np.dtype,
        seed: int,
        is_checked: bool = True,
        memory: np.ndarray | None = None,
    ) -> None:
        if np.result_type(a_dtype, b_dtype) != product_dtype:
            raise ValueError(f"{a_dtype} @ {b_dtype} is not {product_dtype} in NumPy")
        self._sum: _FloatSum | _IntegerSum | _BoolSum
        if product_dtype.kind in "fc":
            block = np.empty(rows * cols, product_dtype) if memory is None else memory
            self._sum = _FloatSum(block.reshape(rows, cols), k, seed, is_checked)
        elif product_dtype.kind == "b":
            self._sum = _BoolSum(rows, cols, seed, is_checked)
        else:
            self._sum = _IntegerSum(rows, cols, product_dtype, seed, is_checked)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add ``a[rows, kc] @ b[kc, cols]``; both may be transposed views, which are not copied."""
        self._sum.add(a, b)

    def finish(self) -> tuple[np.ndarray, float | None]:
        """The C-ordered block, and the largest residual of the check as a fraction of its bound (0.0 for exact types).

        The fraction is None when the block was not checked. Raises WrongResult when the block is not the product.
        """
        return self._sum.finish()

    @property
    def row_scale(self) -> np.ndarray | None:
        """Floats that are checked: (|A|·β) of each row, which bounds Σ|a||b| of each of its elements; else None."""
        return self._sum.check.scale if isinstance(self._sum, _FloatSum) and self._sum.check is not None else None


class _FloatSum:
    def __init__(self, block: np.ndarray, k: int, seed: int, is_checked: bool) -> None:
        self._block, self._is_cleared = block, False
        self.check = FloatCheck(block.shape[0], block.shape[1], k, block.dtype, seed) if is_checked else None

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        self._clear()
        if self.check is not None:
            self.check.add(a, b, self._block)
        dtype = self._block.dtype
        blas.accumulate(a.astype(dtype, order="K", copy=False), b.astype(dtype, order="K", copy=False), self._block)

    def finish(self) -> tuple[np.ndarray, float | None]:
        self._clear()
        return self._block, None if self.check is None else self.check.finish(self._block)

    def _clear(self) -> None:
        if not self._is_cleared:
            self._block.fill(0)
            self._is_cleared = True


class _IntegerSum:
    def __init__(self, rows: int, cols: int, dtype: np.dtype, seed: int, is_checked: bool) -> None:
        width = dtype.itemsize * 8
        self._dtype = dtype
        self._sum = ModularSum((rows, cols), width)
        self._check = IntegerCheck(rows, cols, width, seed) if is_checked else None

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        self._sum.add(a, b)
        if self._check is not None:
            self._check.add(a, b)

    def finish(self) -> tuple[np.ndarray, float | None]:
        block = self._sum.result(self._dtype)
        if self._check is None:
            return block, None
        self._check.finish(block)
        return block, 0.0


class _BoolSum:
    """Counts of pairs that are both true; the counts are checked as integers, then the block against the counts."""

    def __init__(self, rows: int, cols: int, seed: int, is_checked: bool) -> None:
        self._counts = _IntegerSum(rows, cols, np.dtype(np.int64), seed, is_checked)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        self._counts.add(a, b)

    def finish(self) -> tuple[np.ndarray, float | None]:
        counts, worst = self._counts.finish()
        block = counts != 0
        if worst is not None:
            _compare_with_counts(block, counts)
        return block, worst


def _compare_with_counts(block: np.ndarray, counts: np.ndarray) -> None:
    """Raises WrongResult unless ``block`` is true exactly where a count is at least one."""
    for part in pieces(counts):
        if (wrong := np.minimum(counts[part], 1) != block[part]).any():
            raise WrongResult(
                f"row {part[0].start + int(np.argwhere(wrong)[0][0])} of the block of {block.shape[0]} x {block.shape[1]} "
                "does not agree with its operands"
            )


def mirror(block: np.ndarray) -> None:
    """Make a square block symmetric in place: what is below the diagonal becomes what is above it."""
    for rows, _ in pieces(block):
        first, last = rows.start, min(rows.stop, len(block))
        block[rows, :first] = block[:first, rows].T
        corner = block[first:last, first:last]
        corner[...] = np.where(np.tri(len(corner), k=-1, dtype=bool), corner.T, corner)
