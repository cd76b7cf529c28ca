"""Freivalds' check of a floating-point block against its panels, as they pass through memory.

``x`` is random with entries ±[1, 2). Per row i of C = A @ B, the residual r = |C·x - Σ A·(B·x)| is compared with

    T = 16·f·(c(k)·u + 2·(c(n) + c(k))·u₆₄) · (|A|·β)  + underflow,      β_l = ‖B[l, :]‖₂

**Honest rounding stays below.** With c(k)·u the relative error of a sum of k (f = 1; 4 for complex arithmetic, whose sums of
2k real products err by 2√2·c(k)·u of the moduli at most; |A| is |re| + |im| there, the norm that of moduli), the row e of
rounding errors of C obeys ‖e‖₂ ≤ c(k)·u·‖(|A||B|)ᵢ‖₂ ≤ c(k)·u·(|A|β)ᵢ by the triangle inequality. The signs of x are
random and independent of e, so |e·x| ≤ 16·‖e‖₂ but for a chance of 2·exp(-16²/8) < 3e-14 (Hoeffding, |x| ≤ 2). The check's
own sums are made in float64, rounding u₆₄; their partial sums are by the same inequality within 16·(|A|β)ᵢ, so C·x, B·x and
A·(B·x) add at most c(n) + c(n) + c(k) of 16·u₆₄·(|A|β)ᵢ. c(k) = min(k, 512 + 8·√k) + 8: recursive summation has k
(Higham, Accuracy and Stability, 2002, §3.1), BLAS sums in blocks of q ≤ 512, which has q + k/q (§4.2).
Each product that underflows adds at most one subnormal.

**Errors above are caught.** One wrong element in a row shifts the residual by at least its error, as |x| ≥ 1: always caught
above 2·T. Several wrong elements escape with probability at most 2·T / max|e|, as x has density ≤ 1/2: a row off by 2^20·T
anywhere passes with less than 2^-19. (The Gaussian variant is arXiv 1705.10449; bounded x needs no allowance for its tails.)

NaN and infinity: a row of A or a column of B that holds one leaves the residual, and its elements of C, none of which is
finite, are compared by pattern instead (NaN, +inf, -inf; for complex: finite or not). Rows in which sums of finite numbers
may overflow are not judged, for the order of summation decides there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tilefleet.errors import WrongResult
from workerd.kernels.pieces import PIECE_ELEMENTS, is_by_columns, pieces, shaped_like

_CONFIDENCE = 16.0
_NAN, _PLUS, _MINUS = 1, 2, 4
_DEPTH = 64  # columns of A, rows of B looked at together


def check_vector(n: int, seed: int) -> np.ndarray:
    """n float64 values, each ±[1, 2), the same for a seed for ever."""
    raw = np.random.Philox(key=seed).random_raw(n).astype(np.uint64)
    values = 1.0 + (raw >> np.uint64(12)).astype(np.float64) * 2.0**-52
    return np.where(raw & np.uint64(1), -values, values)


def sum_factor(n: int) -> float:
    """c(n): rounding units by which a sum of n terms may be off, relative to the sum of their absolute values."""
    return min(float(n), 512 + 8 * math.sqrt(n)) + 8


class Bound:
    """T as a function of (|A|·β), for one shape and dtype of product."""

    def __init__(self, n: int, k: int, dtype: np.dtype) -> None:
        info = np.finfo(dtype)
        factor = 4.0 if dtype.kind == "c" else 1.0
        own = 2.0**-53 * 2 * (sum_factor(n) + sum_factor(k))
        self.relative = _CONFIDENCE * factor * (sum_factor(k) * float(info.eps) / 2 + own)
        self.absolute = _CONFIDENCE * factor * (n + k + 1) * (n + 1) ** 0.5 * float(info.smallest_subnormal)
        self.overflow = float(info.max) / (64.0 * (n + 1) ** 0.5)
        """(|A|·β) from which an element of C, or of the check's own sums, may overflow."""

    def of(self, scale: np.ndarray) -> np.ndarray:
        """T of each row, from its (|A|·β)."""
        return np.asarray(self.relative * scale + self.absolute)


class Workspace:
    """Two cache-sized buffers, reused for every piece."""

    def __init__(self, dtype: np.dtype) -> None:
        """``dtype``: float64 or complex128, in which the check computes."""
        self.dtype = dtype
        self._values = np.empty(PIECE_ELEMENTS, dtype)
        self._sizes = np.empty(PIECE_ELEMENTS, np.float64)
        self.is_cleaning = False
        """Whether elements that are not finite count as 0."""

    def values(self, piece: np.ndarray) -> np.ndarray:
        """``piece`` in the check's dtype: itself where it is so, else in a buffer that the next call overwrites."""
        if piece.dtype == self.dtype and not self.is_cleaning:
            return piece
        out = shaped_like(self._values, piece)
        np.copyto(out, piece, casting="unsafe")
        if self.is_cleaning:
            out[~np.isfinite(out)] = 0
        return out

    def sizes(self, values: np.ndarray) -> np.ndarray:
        """|values|, for complex |re| + |im|, in a buffer that the next call overwrites."""
        out = shaped_like(self._sizes, values)
        np.abs(values.real, out=out)
        if values.dtype.kind == "c":
            out += np.abs(values.imag)
        return out


def work_dtype(dtype: np.dtype) -> np.dtype:
    """float64 or complex128: what a check of that dtype computes in."""
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def project(b: np.ndarray, x: np.ndarray, work: Workspace) -> tuple[np.ndarray, np.ndarray]:
    """``b[k, n] @ x[n]`` and the 2-norms of the rows of ``b``: (k,), (k,)."""
    y, squares = np.zeros(b.shape[0], work.dtype), np.zeros(b.shape[0])
    for part in pieces(b):
        values = work.values(b[part])
        y[part[0]] += values @ x[part[1]]
        squares[part[0]] += _squares(values)
    norms = np.sqrt(squares)
    if (extreme := ~((squares > 1e-280) & (squares < 1e300))).any():  # squares may have under- or overflowed
        norms[extreme] = _scaled_norms(b, extreme, work)[extreme]
    return y, norms


def _squares(values: np.ndarray) -> np.ndarray:
    """Σ|element|² of each row."""
    if not is_by_columns(values):
        return np.asarray(np.vecdot(values, values).real)
    parts = (values.real, values.imag) if values.dtype.kind == "c" else (values,)
    return np.asarray(sum(np.einsum("ij,ij->i", part, part) for part in parts))


def _scaled_norms(b: np.ndarray, wanted: np.ndarray, work: Workspace) -> np.ndarray:
    """2-norms of the ``wanted`` rows of ``b``, whose squares are no normal numbers; those of others are of no use."""
    norms = np.zeros(b.shape[0])
    for part in pieces(b):
        if not wanted[part[0]].any():
            continue
        sizes = work.sizes(work.values(b[part]))
        largest = sizes.max(axis=1, initial=0.0)
        scaled = sizes / np.where(largest > 0, largest, 1.0)[:, None]
        norms[part[0]] = np.hypot(norms[part[0]], largest * np.sqrt(np.vecdot(scaled, scaled)))
    return norms


def apply(a: np.ndarray, y: np.ndarray, norms: np.ndarray, work: Workspace) -> tuple[np.ndarray, np.ndarray]:
    """``a[m, k] @ y[k]`` and ``|a| @ norms``: (m,), (m,)."""
    sums, scale = np.zeros(a.shape[0], work.dtype), np.zeros(a.shape[0])
    for part in pieces(a):
        values = work.values(a[part])
        sums[part[0]] += values @ y[part[1]]
        scale[part[0]] += work.sizes(values) @ norms[part[1]]
    return sums, scale


def is_finite(panel: np.ndarray) -> bool:
    """Whether no element is NaN or infinite; a finite sum proves it in one fast pass."""
    if panel.dtype.kind not in "fc":
        return True
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.einsum("ij->", panel))) or bool(np.isfinite(panel).all())


class FloatCheck:
    """The check of one block of rows × cols; ``add`` each panel before it goes into the block, then ``finish``."""

    def __init__(self, rows: int, cols: int, k: int, product_dtype: np.dtype, seed: int) -> None:
        self._bound = Bound(cols, k, product_dtype)
        self._work = Workspace(work_dtype(product_dtype))
        self._x = check_vector(cols, seed)
        self._sums = np.zeros(rows, self._work.dtype)
        self.scale = np.zeros(rows)
        """(|A|·β) of the panels so far, elements that are not finite left out."""
        self._patterns: Patterns | None = None

    def add(self, a: np.ndarray, b: np.ndarray, block: np.ndarray) -> None:
        """Take up a[rows, kc] @ b[kc, cols]; ``block`` is the sum of the panels before it."""
        with np.errstate(all="ignore"):
            self._work.is_cleaning = False
            sums, scale = self._through(a, b)
            if not np.isfinite(scale).all() and not (is_finite(a) and is_finite(b)):
                self._work.is_cleaning = True
                self._set_aside(a, b, block)
                sums, scale = self._through(a, b)
            self._sums += sums
            self.scale += scale

    def _through(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``a @ (b @ x)`` and ``|a| @ β``; the second gives every element a positive weight: none that is not finite hides."""
        y, norms = project(b, self._x, self._work)
        return apply(a, y, norms + np.finfo(np.float64).tiny, self._work)

    def _set_aside(self, a: np.ndarray, b: np.ndarray, block: np.ndarray) -> None:
        """Take rows and columns that are not finite out of the residual."""
        if self._patterns is None:
            self._patterns = Patterns(*block.shape)
        new_columns = self._patterns.add(a, b)
        if new_columns.size:  # what these columns brought so far is in the block: take it back
            for column in new_columns:
                self._sums -= block[:, column].astype(self._work.dtype) * self._x[column]
            self._x[new_columns] = 0.0

    def finish(self, block: np.ndarray) -> float:
        """Largest residual / T of the rows judged. Raises WrongResult naming the first row that is not right."""
        self._work.is_cleaning = False
        with np.errstate(all="ignore"):
            may_overflow = ~(self.scale < self._bound.overflow)
            residual = np.abs(self._projected(block) - self._sums)
            ratio = residual / self._bound.of(self.scale)
        ratio[may_overflow] = 0.0
        if self._patterns is not None:
            ratio[self._patterns.rows] = 0.0
            self._patterns.compare(block, may_overflow)
        if (wrong := ~(ratio <= 1.0)).any():
            row = int(np.flatnonzero(wrong)[0])
            raise WrongResult(
                f"row {row} of the block of {block.shape[0]} x {block.shape[1]} does not agree with its operands: "
                f"the check is off by {ratio[row]:.3g} times what rounding allows"
            )
        return float(ratio.max(initial=0.0))

    def _projected(self, block: np.ndarray) -> np.ndarray:
        sums = np.zeros(block.shape[0], self._work.dtype)
        left_out = None if self._patterns is None else np.flatnonzero(self._patterns.columns)
        for part in pieces(block):
            values = self._work.values(block[part])
            if left_out is not None and left_out.size:
                values = values.copy()
                values[:, left_out] = 0.0
            sums[part[0]] += values @ self._x[part[1]]
        return sums


class Patterns:
    """Where NaN, +inf and -inf must stand in a block, from the elements of its panels that are not finite."""

    def __init__(self, rows: int, cols: int) -> None:
        self.rows = np.zeros(rows, bool)
        self.columns = np.zeros(cols, bool)
        self._flags = np.zeros((rows, cols), np.uint8)

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Take up a[rows, kc] @ b[kc, cols]; returns the columns that were finite before and are not now."""
        is_wild_a, is_wild_b = ~np.isfinite(a), ~np.isfinite(b)
        rows, columns = is_wild_a.any(axis=1), is_wild_b.any(axis=0)
        depth = np.flatnonzero(is_wild_a.any(axis=0) | is_wild_b.any(axis=1))
        for start in range(0, depth.size, _DEPTH):
            some = depth[start : start + _DEPTH]
            left, right = _signs(a[:, some]), _signs(b[some])
            for part in _row_parts(self._flags):
                self._flags[part] |= _flags_of(left[part] @ right) * (rows[part, None] | columns)
        new = columns & ~self.columns
        self.rows |= rows
        self.columns |= columns
        return np.flatnonzero(new)

    def compare(self, block: np.ndarray, may_overflow: np.ndarray) -> None:
        """Raises WrongResult naming the first element that is NaN or infinite where it must not be, or the reverse."""
        for part in _row_parts(self._flags):
            flags = self._flags[part]
            expected = np.where(flags & (flags - (flags > 0)), np.uint8(_NAN), flags)  # two of them make a NaN
            judged = ~may_overflow[part, None] & (self.rows[part, None] | self.columns)
            if (wrong := (_flags_of(block[part]) != expected) & judged).any():
                i, j = np.argwhere(wrong)[0]
                raise WrongResult(
                    f"element ({part.start + int(i)}, {int(j)}) of the block of {block.shape[0]} x {block.shape[1]} "
                    "does not agree with its operands: NaN and infinity are not where they must be"
                )


def _row_parts(x: np.ndarray) -> Iterator[slice]:
    return (rows for rows, _ in pieces(x))


def _flags_of(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "c":
        return np.where(np.isfinite(x), 0, _NAN).astype(np.uint8)
    kinds = np.select([np.isfinite(x), np.isnan(x), x > 0], [0, _NAN, _PLUS], default=_MINUS)
    return kinds.astype(np.uint8)


def _signs(x: np.ndarray) -> np.ndarray:
    """Finite elements as -1, 0 or 1, so that no sum of theirs overflows (for complex: as they are, in parts)."""
    signs = np.array(x, np.complex128 if x.dtype.kind == "c" else np.float64, order="C")
    parts = signs.view(np.float64)
    np.sign(parts, out=parts, where=np.isfinite(parts))
    return signs
