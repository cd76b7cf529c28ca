"""``tilefleet verify``: a stored result R against the operands it was made of, end to end, in O(n²) where that is possible.

``R = alpha * (A @ B) + beta * C0``. First every band of rows of op(B) is projected on check vectors x (``project``); then every
band of rows of R is compared: R·x with alpha·A·(B·x) + beta·C0·x (``ProductCheck``).

* Floats: by the bound of ``float_check``, widened by the roundings of the epilogue. Where anything is NaN or infinite, or an
  intermediate may overflow, ``finish`` answers None: compute that band again and use ``compare_recomputed``.
* Integers: modulo 2^width as in ``integer_check``, when each step of the epilogue stays in the product's dtype, so that it is
  ring arithmetic. Steps that leave it (``0.5 * int``, int32 + int64) and bool, for which no O(n²) proof is known, are not
  ``is_provable``: they are computed again, exactly, and every element is compared.
"""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np

from tilefleet.dtypes import Scalar, added_dtype, parse_scalar, scaled_dtype
from tilefleet.errors import BadInput
from tilefleet.facts import CheckFacts
from tilefleet.messages import Check, Epilogue, Gemm
from workerd.kernels import elementwise, float_check, integer_check
from workerd.kernels.float_check import Bound, Workspace, sum_factor
from workerd.kernels.pieces import pieces


class Projection(NamedTuple):
    """Rows of op(B) on the check vectors."""

    values: np.ndarray
    """Floats: (rows,) float64 or complex128. Integers: (rows, 1 + n_vectors) int64."""
    norms: np.ndarray
    """2-norms of the rows, (rows,) float64; for integers empty. NaN or inf where the row has such elements."""

    def rows(self, rows: slice) -> Projection:
        """Those of some of the rows: the ones that belong to a panel of op(A)."""
        return Projection(self.values[rows], self.norms[rows])


def project(b: np.ndarray, product_dtype: np.dtype, seed: int, n_vectors: int) -> Projection:
    """Rows of op(B), all n columns of them, on the check vectors of ``seed``. Floats take one vector whatever ``n_vectors``."""
    n = b.shape[1]
    if product_dtype.kind in "fc":
        with np.errstate(all="ignore"):
            work = Workspace(float_check.work_dtype(product_dtype))
            return Projection(*float_check.project(b, float_check.check_vector(n, seed), work))
    x = integer_check.check_vectors(n, n_vectors, seed)
    return Projection(integer_check.multiply(b, x, product_dtype.itemsize * 8), np.empty(0))


def encode_projection(projection: Projection) -> bytes:
    """Both arrays in npy format, one after the other."""
    buffer = io.BytesIO()
    for array in projection:
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def decode_projection(body: bytes) -> Projection:
    """Inverse of ``encode_projection``; never unpickles. Raises BadInput for anything else."""
    buffer = io.BytesIO(body)
    try:
        return Projection(np.load(buffer, allow_pickle=False), np.load(buffer, allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise BadInput(f"not a projection of ours: {error}; verify again") from error


def join_projections(projections: list[Projection]) -> Projection:
    """The projections of consecutive bands as one."""
    return Projection(np.concatenate([p.values for p in projections]), np.concatenate([p.norms for p in projections]))


class Factors(NamedTuple):
    """alpha and beta as numbers; None where a step is absent."""

    alpha: Scalar | None
    beta: Scalar | None

    @classmethod
    def of(cls, epilogue: Epilogue | None) -> Factors:
        texts = (None, None) if epilogue is None else (epilogue.alpha, epilogue.beta)
        return cls(*(None if text is None else parse_scalar(text) for text in texts))


def is_provable(product: Gemm) -> bool:
    """Whether ``ProductCheck`` can judge this product; otherwise compute it again and compare every element."""
    dtype = np.dtype(product.product_dtype)
    if dtype.kind in "fc":
        return True
    steps, factors = [dtype], Factors.of(product.epilogue)
    steps.append(scaled_dtype(factors.alpha, dtype))
    if product.epilogue is not None and product.epilogue.c is not None:
        c = np.dtype(str(product.epilogue.c.matrix.dtype))
        steps.append(added_dtype(steps[-1], scaled_dtype(factors.beta, c)))
    return dtype.kind in "iu" and all(step == dtype for step in steps)


class ProductCheck:
    """Judges the rows ``work.rect`` of a result (all its columns): ``add`` every panel of op(A), then ``finish``."""

    def __init__(self, work: Check) -> None:
        if work.product is None:
            raise ValueError("this check is not of a product")
        self._product_dtype = np.dtype(work.product.product_dtype)
        self._k = work.product.k1 - work.product.k0
        self._factors = Factors.of(work.product.epilogue)
        self._row0, self._seed, self._n_vectors = work.rect.row0, work.seed, work.n_vectors
        rows = work.rect.rows
        self._is_float = self._product_dtype.kind in "fc"
        self._work = Workspace(float_check.work_dtype(np.dtype(work.result.dtype))) if self._is_float else None
        self._width = 8 * self._product_dtype.itemsize
        self._sums = np.zeros(rows, self._work.dtype) if self._work else np.zeros((rows, 1 + work.n_vectors), np.int64)
        self._scale = np.zeros(rows)

    def add(self, a: np.ndarray, projection: Projection) -> None:
        """Take up op(A)[rows, kc] and the projection of op(B)[kc, :]."""
        if self._work is None:
            self._sums += integer_check.multiply(a, projection.values, self._width)
            return
        with np.errstate(all="ignore"):
            norms = projection.norms + np.finfo(np.float64).tiny
            sums, scale = float_check.apply(a, projection.values, norms, self._work)
            self._sums += sums
            self._scale += scale

    def finish(self, result: np.ndarray, c: np.ndarray | None) -> CheckFacts | None:
        """What was found in ``result[rows, n]``, given ``c[rows, n]`` of the epilogue; None: compute these rows again."""
        with np.errstate(all="ignore"):
            added = None if c is None else elementwise.combine([(self._factors.beta, c)], is_subtraction=False)
            if self._work is None:
                return self._facts(self._integer_ratio(result, added))
            bound = Bound(result.shape[1], self._k, self._product_dtype)
            if not (self._scale < bound.overflow).all() or (added is not None and not float_check.is_finite(added)):
                return None
            return self._facts(self._float_ratio(result, added, bound, self._work))

    def _facts(self, ratio: np.ndarray) -> CheckFacts:
        wrong = np.flatnonzero(~(ratio <= 1.0))
        first_row = self._row0 + int(wrong[0]) if wrong.size else -1
        worst = float(np.nan_to_num(ratio, nan=math.inf).max(initial=0.0))
        return CheckFacts(worst, int(wrong.size), first_row)

    def _integer_ratio(self, result: np.ndarray, added: np.ndarray | None) -> np.ndarray:
        """0 for a row that agrees, inf for one that does not."""
        x = integer_check.check_vectors(result.shape[1], self._n_vectors, self._seed)
        alpha = 1 if self._factors.alpha is None else int(self._factors.alpha.real)
        expected = self._sums.view(np.uint64) * np.uint64(alpha % 2**64)
        if added is not None:
            expected += integer_check.multiply(added, x, self._width).view(np.uint64)
        actual = integer_check.multiply(result, x, self._width)
        is_wrong = (actual != integer_check.wrap(expected, self._width)).any(axis=1)
        return np.where(is_wrong, math.inf, 0.0)

    def _float_ratio(self, result: np.ndarray, added: np.ndarray | None, bound: Bound, work: Workspace) -> np.ndarray:
        x = float_check.check_vector(result.shape[1], self._seed)
        alpha = _rounded(self._factors.alpha, self._product_dtype)
        expected, scale = alpha * self._sums, abs(alpha) * self._scale
        limit = abs(alpha) * bound.of(self._scale) + 2 * bound.absolute
        if added is not None:
            sums, norms = _on_vector(added, x, work)
            expected, scale = expected + sums, scale + norms
        actual, _ = _on_vector(result, x, work)
        limit += _epilogue_limit(result.shape[1], self._product_dtype, scale)
        return np.asarray(np.abs(actual - expected) / limit)


def _on_vector(panel: np.ndarray, x: np.ndarray, work: Workspace) -> tuple[np.ndarray, np.ndarray]:
    return float_check.project(panel, x, work)


def _rounded(alpha: Scalar | None, dtype: np.dtype) -> complex | float:
    """The factor as it is multiplied: rounded to the precision of the array beside it."""
    if alpha is None:
        return 1.0
    value = np.multiply(alpha, np.ones(1, dtype))[0]
    return complex(value) if value.dtype.kind == "c" else float(value)


def _epilogue_limit(n: int, dtype: np.dtype, scale: np.ndarray) -> np.ndarray:
    """What three roundings of every element, and the check's own sum of them, may add to a residual."""
    units = 4 * 4 * float(np.finfo(dtype).eps) / 2 + 4 * sum_factor(n) * 2.0**-53
    return np.asarray(16.0 * units * scale)


def compare_recomputed(
    result: np.ndarray, product: np.ndarray, scale: np.ndarray | None, work: Gemm, c: np.ndarray | None, row0: int
) -> CheckFacts:
    """Every element of a stored block ``result`` against ``product``, computed again, with the epilogue of ``work``.

    ``scale``: ``BlockProduct.row_scale``. Exact types must be equal; floats agree within twice the rounding bound of one
    element, NaN and infinity where they stand (rows that may overflow are not judged). ``row0``: the block's first row in
    the matrix. ``product`` is used up.
    """
    factors = Factors.of(work.epilogue)
    dtype = product.dtype
    expected = elementwise.epilogue(product, factors.alpha, factors.beta, c)
    if scale is None:
        n_wrong, first = elementwise.count_differences(result, expected)
        return CheckFacts(math.inf if n_wrong else 0.0, n_wrong, row0 + first if n_wrong else -1)
    with np.errstate(all="ignore"):
        ratio = _element_ratios(result, expected, scale, _ElementBound(work, dtype, abs(_rounded(factors.alpha, dtype))))
    wrong = np.flatnonzero(~(ratio <= 1.0))
    worst = float(np.nan_to_num(ratio, nan=math.inf).max(initial=0.0))
    return CheckFacts(worst, int(wrong.size), row0 + int(wrong[0]) if wrong.size else -1)


class _ElementBound:
    """How far two computations of one element may be apart."""

    def __init__(self, work: Gemm, dtype: np.dtype, alpha: float) -> None:
        info, k = np.finfo(dtype), work.k1 - work.k0
        factor = 4.0 if dtype.kind == "c" else 1.0
        self.relative = 2 * factor * (sum_factor(k) + 8) * float(info.eps) * alpha
        self.absolute = 4 * factor * (k + 1) * float(info.smallest_subnormal) * max(1.0, alpha)
        self.of_value = 8 * float(info.eps)
        self.overflow = float(info.max) / 64.0


def _element_ratios(result: np.ndarray, expected: np.ndarray, scale: np.ndarray, bound: _ElementBound) -> np.ndarray:
    """Largest |difference| / bound of each row."""
    ratio = np.zeros(result.shape[0])
    for part in pieces(result):
        ours, theirs, rows = result[part], expected[part], part[0]
        limit = bound.relative * scale[rows, None] + bound.absolute + bound.of_value * np.abs(theirs)
        apart = np.abs(ours - theirs) / limit
        apart[~np.isfinite(theirs)] = math.inf
        apart[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0.0
        apart[~(scale[rows] < bound.overflow)] = 0.0
        ratio[rows] = np.maximum(ratio[rows], np.nan_to_num(apart, nan=math.inf).max(axis=1, initial=0.0))
    return ratio
