"""The check inside a job: wrong blocks are caught, honest rounding is not."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernels.examples import full_range, product_of
from tilefleet.errors import WrongResult
from workerd.kernels import integer_check
from workerd.kernels.float_check import FloatCheck, Workspace, check_vector, project, work_dtype
from workerd.kernels.integer_check import IntegerCheck
from workerd.kernels.product import _compare_with_counts

FLOATS = [np.dtype(name) for name in ("float32", "float64", "complex64", "complex128")]
INTEGERS = [np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")]


def float_check_of(a: np.ndarray, b: np.ndarray, panel_k: int = 50) -> tuple[FloatCheck, np.ndarray]:
    """A check that has seen all panels, and the honest block."""
    block = np.zeros((a.shape[0], b.shape[1]), np.result_type(a, b))
    check = FloatCheck(a.shape[0], b.shape[1], a.shape[1], block.dtype, seed=5)
    with np.errstate(all="ignore"):
        for k in range(0, a.shape[1], panel_k):
            check.add(a[:, k : k + panel_k], b[k : k + panel_k], block)
            block += a[:, k : k + panel_k] @ b[k : k + panel_k]
    return check, block


@settings(max_examples=120, deadline=None)
@given(
    dtype=st.sampled_from(INTEGERS),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 6)),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_any_bit_of_any_integer_element_is_caught(
    dtype: np.dtype, shape: tuple[int, int, int], seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    (m, k, n) = shape
    a, b = full_range(rng, (m, k), dtype), full_range(rng, (k, n), dtype)
    check = IntegerCheck(m, n, 8 * dtype.itemsize, seed)
    check.add(a, b)
    block = a @ b
    check.finish(block)
    byte = data.draw(st.integers(0, block.nbytes - 1))
    block.reshape(-1).view(np.uint8)[byte] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(WrongResult, match=f"row {byte // dtype.itemsize // n} "):
        check.finish(block)


def test_top_bits_that_cancel_in_a_row_are_caught_by_the_random_vectors() -> None:
    """Two errors of 2^63 add up to 0 modulo 2^64 for the column of ones."""
    a = np.ones((1, 4), np.int64)
    b = np.ones((4, 40), np.int64)
    missed = 0
    for seed in range(200):
        check = IntegerCheck(1, 40, 64, seed)
        check.add(a, b)
        block = a @ b
        block[0, [3, 17]] ^= np.int64(-(2**63))
        try:
            check.finish(block)
            missed += 1
        except WrongResult:
            pass
    assert missed == 0


def test_one_random_vector_misses_half_of_them() -> None:
    """The stated probability is the real one: fewer vectors do miss."""
    missed = 0
    for seed in range(400):
        x = integer_check.check_vectors(40, 1, seed)
        missed += int((x[3] + x[17])[1] % 2 == 0)
    assert 140 < missed < 260


@pytest.mark.parametrize("value", [True, False])
def test_a_wrong_bool_is_caught(value: bool) -> None:
    counts = np.array([[0, 3], [1, 0]])
    block = counts != 0
    _compare_with_counts(block, counts)
    block[1, int(value)] ^= True
    with pytest.raises(WrongResult, match="row 1 "):
        _compare_with_counts(block, counts)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("k", [1, 40, 700])
def test_errors_above_the_bound_are_caught_wherever_they_are(dtype: np.dtype, k: int) -> None:
    rng = np.random.default_rng(k)
    a, b = full_range(rng, (9, k), dtype), full_range(rng, (k, 30), dtype)
    check, block = float_check_of(a, b)
    assert check.finish(block) < 0.1
    limit = check._bound.of(check.scale)
    for i, j in [(0, 0), (8, 29), (4, 13)]:
        wrong = block.copy()
        wrong[i, j] += 2.2 * limit[i]
        with pytest.raises(WrongResult, match=f"row {i} "):
            check.finish(wrong)


def test_the_bound_is_close_to_rounding() -> None:
    """float64, 300 × 1000 × 300: an error of 1e-10 of an element is far above the bound."""
    rng = np.random.default_rng(1)
    a, b = rng.random((300, 1000)), rng.random((1000, 300))
    check, block = float_check_of(a, b, 500)
    block[17, 4] *= 1 + 1e-9
    with pytest.raises(WrongResult, match="row 17 "):
        check.finish(block)


def honest_examples() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(2)
    normal = rng.normal(size=(60, 400))
    spread = np.exp(rng.uniform(-300, 300, (60, 400)))
    columns = np.exp(rng.uniform(-300, 300, 400))
    hilbert = 1.0 / (np.arange(60)[:, None] + np.arange(400) + 1.0)
    tiny = np.full((20, 100), 5e-324) * rng.integers(0, 9, (20, 100))
    return {
        "normal": (normal, normal.T.copy()),
        "long": (np.full((3, 40_000), 0.1), np.full((40_000, 3), 0.1)),
        "long float32": (np.full((3, 40_000), 0.1, np.float32), np.full((40_000, 3), 0.1, np.float32)),
        "wide float32": (np.full((3, 50), 0.1, np.float32), np.full((50, 30_000), 0.1, np.float32)),
        "ill-conditioned": (hilbert, (normal * 1e8).T.copy()),
        "cancelling": (np.concatenate([normal, -normal], axis=1), np.concatenate([normal, normal], axis=1).T.copy()),
        "dynamic range": (spread, spread[::-1].T.copy()),
        "badly scaled columns": (normal * columns, (normal / columns).T.copy()),
        "denormal": (tiny, rng.random((100, 20))),
        "denormal times huge": (np.full((20, 100), 1e300), tiny.T.copy()),
        "denormal products": (normal * 1e-160, (normal * 1e-162).T.copy()),
        "denormal float32": ((normal * 1e-20).astype(np.float32), (normal * 1e-22).T.astype(np.float32)),
        "overflow": (normal * 1e200, (normal * 1e200).T.copy()),
        "overflow float32": ((normal * 1e30).astype(np.float32), (normal * 1e30).T.astype(np.float32)),
        "near overflow": (normal * 1e150, (normal * 1e155).T.copy()),
        "zeros": (np.zeros((5, 7)), np.zeros((7, 3))),
    }


@pytest.mark.parametrize("name", list(honest_examples()))
def test_honest_rounding_is_never_flagged(name: str) -> None:
    a, b = honest_examples()[name]
    for kind in (np.float64, np.complex128) if a.dtype == np.float64 else (np.float32, np.complex64):
        for panel_k in (64, 50_000):
            _, worst = product_of(a.astype(kind), b.astype(kind), panel_k)
            assert worst is not None and worst < 0.5


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), dtype=st.sampled_from(FLOATS), panel_k=st.integers(1, 20), n_wild=st.integers(1, 6))
def test_nan_and_infinity_stand_where_numpy_puts_them(seed: int, dtype: np.dtype, panel_k: int, n_wild: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = full_range(rng, (8, 20), dtype), full_range(rng, (20, 9), dtype)
    a[rng.random(a.shape) < 0.2] = 0
    b[rng.random(b.shape) < 0.2] = 0
    for x in (a, b):
        for _ in range(n_wild):
            x[rng.integers(x.shape[0]), rng.integers(x.shape[1])] = rng.choice([np.nan, np.inf, -np.inf])
    got, worst = product_of(a, b, panel_k)
    with np.errstate(all="ignore"):
        expected = a @ b
    assert worst is not None and worst < 0.5
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    if dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        infinite = np.isinf(expected)
        np.testing.assert_array_equal(got[infinite], expected[infinite])


@pytest.mark.parametrize("place", [(2, 3), (5, 4), (0, 0)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.0])
def test_a_wrong_value_is_caught_in_finite_and_other_rows_and_columns(place: tuple[int, int], value: float) -> None:
    """Row 2 holds inf, column 4 holds NaN (in the second panel), and (0, 0) is a common element."""
    rng = np.random.default_rng(0)
    a, b = rng.random((8, 20)), rng.random((20, 9))
    a[2, 5], b[15, 4] = np.inf, np.nan
    check, block = float_check_of(a, b, 10)
    check.finish(block)
    if block[place] == value or (np.isnan(value) and np.isnan(block[place])):
        return
    block[place] = value
    with pytest.raises(WrongResult, match=f"row {place[0]} |\\({place[0]}, {place[1]}\\)"):
        check.finish(block)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_norms_of_rows_whose_squares_are_no_numbers(dtype: str, order: Literal["C", "F"]) -> None:
    dtype_ = np.dtype(dtype)
    rows = np.random.default_rng(3).normal(size=(6, 5000)).astype(dtype_) * (1 + 1j if dtype_.kind == "c" else 1)
    limit = float(np.finfo(dtype_).max)
    sizes = np.array([1.0, 0.0, 1e-30, 1e30, limit / 1e4, 1e4 / limit])
    b = np.asarray(rows * sizes[:, None], dtype_, order=order)
    with np.errstate(all="ignore"):
        _, norms = project(b, check_vector(5000, 1), Workspace(work_dtype(dtype_)))
    wide = rows.astype(np.clongdouble if dtype_.kind == "c" else np.longdouble)
    expected = np.sqrt((np.abs(wide) ** 2).sum(axis=1)).astype(float) * sizes
    is_normal = sizes > 10 * float(np.finfo(dtype_).tiny)
    np.testing.assert_allclose(norms[is_normal], expected[is_normal], rtol=1e-5 if dtype_.itemsize < 16 else 0.5)
    assert (norms[is_normal] >= expected[is_normal] * (1 - 1e-5)).all()
    assert norms[1] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("is_in_a", [True, False])
def test_what_is_not_finite_is_seen_though_it_meets_nothing_but_zeros(value: float, is_in_a: bool) -> None:
    """0 · inf is NaN, in NumPy as here."""
    a, b = np.ones((8, 20)), np.ones((20, 9))
    if is_in_a:
        a[3, 11], b[11] = value, 0
    else:
        b[11, 3], a[:, 11] = value, 0
    check, block = float_check_of(a, b, 10)
    assert np.isnan(block[3] if is_in_a else block[:, 3]).all()
    check.finish(block)
    block[3, 3] = 19.0
    with pytest.raises(WrongResult, match=r"\(3, 3\)"):
        check.finish(block)


def test_check_vectors_are_the_same_for_ever() -> None:
    """Project and Check run in different processes, perhaps with different NumPys."""
    x = check_vector(3, 42)
    assert x.tolist() == GOLDEN_FLOATS
    assert integer_check.check_vectors(3, 4, 42).tolist() == GOLDEN_BITS
    assert ((np.abs(check_vector(10_000, 1)) >= 1) & (np.abs(check_vector(10_000, 1)) < 2)).all()


GOLDEN_FLOATS = [1.8201981478608875, 1.1892456240864548, -1.867660814882146]
GOLDEN_BITS = [[1, 0, 1, 1, 1], [1, 0, 1, 1, 1], [1, 1, 1, 0, 0]]
