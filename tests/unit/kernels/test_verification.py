"""A stored result against its operands, band by band, as the jobs do it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.unit.kernels.examples import full_range, product_of
from tilefleet.dtypes import parse_scalar
from tilefleet.errors import BadInput
from tilefleet.facts import CheckFacts
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Check, Epilogue, Gemm
from workerd.kernels import verification
from workerd.kernels.product import BlockProduct

M, K, N = 20, 90, 31
ROW0 = 100  # where the band of result rows begins in its matrix


def ref(x: np.ndarray) -> MatrixRef:
    return MatrixRef("file:///x", "zarr", (int(x.shape[0]), int(x.shape[1])), x.dtype.name, (8, 8))


class Stored:
    """Operands, an honest result, and the messages that name them."""

    def __init__(self, a: np.ndarray, b: np.ndarray, epilogue: tuple[str | None, str | None], c: np.ndarray | None) -> None:
        self.a, self.b, self.c = a, b, c
        self.dtype = np.result_type(a, b)
        with np.errstate(all="ignore"):
            self.result = a @ b
            if epilogue[0] is not None:
                self.result = parse_scalar(epilogue[0]) * self.result
            if c is not None:
                self.result = self.result + (c if epilogue[1] is None else parse_scalar(epilogue[1]) * c)
        wire = Epilogue(*epilogue, None if c is None else Operand(ref(c)))
        out = ref(self.result)
        self.gemm = Gemm(
            Operand(ref(a)), Operand(ref(b)), out, Rect(0, a.shape[0], 0, b.shape[1]), 0, a.shape[1], 32, self.dtype.name,
            wire,
        )  # fmt: skip
        self.work = Check(out, Rect(ROW0, ROW0 + a.shape[0], 0, b.shape[1]), "", 77, 20, self.gemm)

    def check(self, result: np.ndarray) -> CheckFacts | None:
        bands = [
            verification.encode_projection(verification.project(self.b[k : k + 40], self.dtype, 77, 20)) for k in range(0, K, 40)
        ]
        projection = verification.join_projections([verification.decode_projection(band) for band in bands])
        check = verification.ProductCheck(self.work)
        for k in range(0, K, 32):
            check.add(self.a[:, k : k + 32], projection.rows(slice(k, k + 32)))
        return check.finish(result, self.c)

    def recompute(self, result: np.ndarray) -> CheckFacts:
        block = BlockProduct(self.a.shape[0], self.b.shape[1], K, self.a.dtype, self.b.dtype, self.dtype, 3)
        block.add(self.a, self.b)
        product, _ = block.finish()
        return verification.compare_recomputed(result, product, block.row_scale, self.gemm, self.c, ROW0)


def stored(
    a_dtype: str, b_dtype: str, alpha: str | None = None, beta: str | None = None, c_dtype: str | None = None, seed: int = 0
) -> Stored:
    rng = np.random.default_rng(seed)
    a, b = full_range(rng, (M, K), np.dtype(a_dtype)), full_range(rng, (N, K), np.dtype(b_dtype)).T
    c = None if c_dtype is None else full_range(rng, (M, N), np.dtype(c_dtype))
    return Stored(a, b, (alpha, beta), c)


FLOAT_CASES = list(
    itertools.product(
        ["float32", "float64", "complex64", "complex128"], [None, "1e-3", "-2", "1+2j"], [None, "float32", "int64", "complex128"]
    )
)


@pytest.mark.parametrize(("dtype", "alpha", "c_dtype"), FLOAT_CASES)
def test_floats_with_every_epilogue(dtype: str, alpha: str | None, c_dtype: str | None) -> None:
    case = stored(dtype, dtype, alpha, "0.5" if c_dtype != "int64" else None, c_dtype)
    facts = case.check(case.result)
    assert facts is not None and facts.worst < 0.5 and facts.mismatches == 0 and facts.first_row == -1
    assert case.recompute(case.result).worst < 0.5
    wrong = case.result.copy()
    wrong[7, 3] += 0.1 * np.abs(case.result).max()
    for facts in (case.check(wrong), case.recompute(wrong)):
        assert facts is not None and facts.worst > 1 and (facts.mismatches, facts.first_row) == (1, ROW0 + 7)


INTEGER_CASES = [
    ("int64", "int64", None, None, None),
    ("int64", "int32", "-3", "7", "int64"),
    ("int8", "int8", "5", None, "int8"),
    ("uint64", "uint64", "2", "3", "uint8"),
    ("uint16", "int32", None, "-1", "int16"),
]


@pytest.mark.parametrize(("a", "b", "alpha", "beta", "c"), INTEGER_CASES)
def test_integers_that_wrap_with_every_bit(a: str, b: str, alpha: str | None, beta: str | None, c: str | None) -> None:
    case = stored(a, b, alpha, beta, c)
    assert verification.is_provable(case.gemm)
    assert case.check(case.result) == CheckFacts(0.0, 0, -1)
    width = 8 * case.result.dtype.itemsize
    for bit in range(width):
        wrong = case.result.copy()
        wrong[bit % M].view(np.uint8)[bit // 8 + 2 * case.result.dtype.itemsize] ^= np.uint8(1 << bit % 8)
        facts = case.check(wrong)
        assert facts is not None and facts.worst > 1 and (facts.mismatches, facts.first_row) == (1, ROW0 + bit % M)


@pytest.mark.parametrize(
    ("a", "b", "alpha", "beta", "c"),
    [("bool", "bool", None, None, None), ("bool", "bool", "3", None, "int8"), ("int32", "int32", "0.5", None, None),
     ("int32", "int32", None, "2", "int64"), ("int64", "int64", "2", "1", "float32"), ("uint64", "uint64", None, None, "int8")],
)  # fmt: skip
def test_what_has_no_short_proof_is_computed_again(a: str, b: str, alpha: str | None, beta: str | None, c: str | None) -> None:
    case = stored(a, b, alpha, beta, c)
    assert not verification.is_provable(case.gemm)
    assert case.recompute(case.result) == CheckFacts(0.0, 0, -1)
    wrong = case.result.copy()
    wrong[4, 5] = not wrong[4, 5] if wrong.dtype == bool else wrong[4, 5] + 1
    if not (wrong == case.result).all():
        facts = case.recompute(wrong)
        assert facts.worst > 1 and (facts.mismatches, facts.first_row) == (1, ROW0 + 4)


@pytest.mark.parametrize("where", ["a", "b", "c"])
def test_nan_and_infinity_are_left_to_the_second_computation(where: str) -> None:
    case = stored("float64", "float64", "2", "1", "float64")
    x = {"a": case.a, "b": case.b, "c": case.c}[where]
    assert x is not None
    x[3, 4] = np.inf
    case = Stored(case.a, case.b, ("2", "1"), case.c)
    assert case.check(case.result) is None
    assert case.recompute(case.result).worst < 0.5
    wrong = case.result.copy()
    wrong[3, 4] = 0.0
    assert case.recompute(wrong).mismatches == 1
    wrong = case.result.copy()
    wrong[19, 30] = np.nan
    assert case.recompute(wrong).first_row == ROW0 + 19


def test_the_result_is_checked_and_not_only_the_operands() -> None:
    """A NaN in a result of finite operands is a mismatch, not a reason to look away."""
    case = stored("float64", "float64")
    wrong = case.result.copy()
    wrong[2, 2] = np.nan
    facts = case.check(wrong)
    assert facts is not None and facts.first_row == ROW0 + 2


def test_agrees_with_a_block_of_ours() -> None:
    case = stored("float32", "float32")
    facts = case.check(product_of(case.a, case.b, 16)[0])
    assert facts is not None and facts.worst < 0.5


def test_projections_that_are_damaged_or_pickled_are_refused() -> None:
    good = verification.encode_projection(verification.project(np.ones((3, 4)), np.dtype(np.float64), 1, 2))
    pickled = np.lib.format.MAGIC_PREFIX + b"\x01\x00" + b"\x80\x04K\x01."
    for body in (b"", good[:20], good[: len(good) // 2], pickled):
        with pytest.raises(BadInput, match="not a projection"):
            verification.decode_projection(body)
