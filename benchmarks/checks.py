"""Whether a result is right: integers equal to NumPy's bit by bit, others by Freivalds' check in every row.

The rule: a time counts only after this. With x random, C·x is compared with A·(B·x), which is computed once for a case; a
single wrong element of a product shows, as the tolerance is far below what one element adds to its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

TOLERANCE = {"float32": 1e-3, "float64": 1e-9, "complex64": 1e-3, "complex128": 1e-9}
"""Of the root mean square of A·(B·x): rounding gives 1e-6 and 1e-14, one wrong element 1e-2."""


class WrongResultError(Exception):
    """A peer's result differs from what it should be."""


def bands(array: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """A zarr array, a row of chunks at a time."""
    height = array.chunks[0]
    for start in range(0, array.shape[0], height):
        rows = slice(start, min(start + height, array.shape[0]))
        yield rows, array[rows, :]


def times(array: Any, x: np.ndarray) -> np.ndarray:
    """``array @ x`` without holding the array."""
    product = np.empty(array.shape[0], np.result_type(array.dtype, x.dtype))
    for rows, band in bands(array):
        product[rows] = band @ x
    return product


class Expected:
    """What the result of one case must be, computed on first use and kept."""

    def __init__(self, kind: str, a: Any, b: Any) -> None:
        self._kind, self._a, self._b = kind, a, b
        self._is_exact = np.dtype(a.dtype).kind in "iub"
        self._x = np.random.default_rng(8).standard_normal(b.shape[1])
        self._y: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return (self._a.shape[0], self._b.shape[1])

    def check(self, result: Any) -> None:
        """Raises WrongResultError unless ``result`` (a zarr array) is right."""
        if tuple(result.shape) != self.shape or np.dtype(result.dtype) != np.dtype(self._a.dtype):
            raise WrongResultError(f"the result is {result.dtype} {result.shape}")
        if self._is_exact:
            self._check_exactly(result)
        else:
            self._check_rows(result)

    def _check_exactly(self, result: Any) -> None:
        if self._y is None:
            a, b = self._a[:], self._b[:]
            self._y = a @ b if self._kind == "multiply" else a + b
        if not np.array_equal(result[:], self._y):
            raise WrongResultError("the result is not bit-equal to NumPy's")

    def _check_rows(self, result: Any) -> None:
        if self._y is None:
            right = times(self._b, self._x)
            self._y = times(self._a, right if self._kind == "multiply" else self._x)
            self._y += 0 if self._kind == "multiply" else right
        error = np.abs(times(result, self._x) - self._y).max() / np.sqrt(np.mean(np.abs(self._y) ** 2))
        if not error <= TOLERANCE[np.dtype(result.dtype).name]:
            raise WrongResultError(f"the result is wrong: off by {error:.1e} of a row's size")
