"""BlockProduct against NumPy."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.kernels.examples import DTYPES, full_range, product_of
from workerd.kernels import blas, exact
from workerd.kernels.product import BlockProduct

SIDES = st.integers(0, 12)


def assert_numpys(a: np.ndarray, b: np.ndarray, got: np.ndarray, worst: float | None) -> None:
    with np.errstate(all="ignore"):
        expected = a @ b
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.flags.c_contiguous
    assert worst is not None and 0.0 <= worst < 0.5
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(got, expected)
    else:
        unit = float(np.finfo(expected.dtype).eps)
        size = np.abs(a.astype(np.complex128)) @ np.abs(b.astype(np.complex128))
        assert (np.abs(got - expected) <= 8 * (a.shape[1] + 2) * unit * size).all()


@pytest.mark.parametrize(("a_dtype", "b_dtype"), list(itertools.product(DTYPES, DTYPES)), ids=str)
def test_every_pair_of_dtypes(a_dtype: np.dtype, b_dtype: np.dtype) -> None:
    rng = np.random.default_rng(7)
    a, b = full_range(rng, (19, 70), a_dtype), full_range(rng, (23, 70), b_dtype).T
    assert_numpys(a, b, *product_of(a, b, 32))


@settings(max_examples=150, deadline=None)
@given(
    m=SIDES,
    k=SIDES,
    n=SIDES,
    panel_k=st.integers(1, 12),
    a_dtype=st.sampled_from(DTYPES),
    b_dtype=st.sampled_from(DTYPES),
    orders=st.tuples(st.sampled_from("CFS"), st.sampled_from("CFS")),
    seed=st.integers(0, 2**32),
)
def test_every_shape_and_order(
    m: int, k: int, n: int, panel_k: int, a_dtype: np.dtype, b_dtype: np.dtype, orders: tuple[str, str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a = laid_out(full_range(rng, (m, k), a_dtype), orders[0])
    b = laid_out(full_range(rng, (k, n), b_dtype), orders[1])
    assert_numpys(a, b, *product_of(a, b, panel_k, seed=seed))


def laid_out(x: np.ndarray, order: str) -> np.ndarray:
    """C order, F order, or every second column of a larger array."""
    if order == "S":
        wide = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
        wide[:, ::2] = x
        return wide[:, ::2]
    return np.array(x, order="F" if order == "F" else "C")


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.uint32])
@pytest.mark.parametrize("k", [1, 511, 1300])
def test_wrap_around_at_the_extremes(dtype: type[np.integer], k: int) -> None:
    info = np.iinfo(dtype)
    for left, right in itertools.product((info.min, info.max, info.max // 2 + 1), repeat=2):
        a, b = np.full((3, k), left, dtype), np.full((k, 2), right, dtype)
        assert_numpys(a, b, *product_of(a, b, 700))


def test_small_values_then_large_ones_in_one_sum() -> None:
    rng = np.random.default_rng(3)
    bounds = [9, 100, 9, 2**20, 2**30, 9, 2**62, 9]
    a = np.concatenate([rng.integers(-x, x, (17, 40)) for x in bounds], axis=1)
    b = np.concatenate([rng.integers(-x, x, (40, 13)) for x in bounds], axis=0)
    assert_numpys(a, b, *product_of(a, b, 40))


def test_bool_counts_beyond_what_one_byte_or_float16_holds() -> None:
    a, b = np.ones((2, 70_000), bool), np.zeros((70_000, 3), bool)
    b[:65_536, 0] = True
    b[-1, 1] = True
    assert product_of(a, b, 70_000)[0].tolist() == [[True, True, False]] * 2


@settings(max_examples=200, deadline=None)
@given(
    a_max=st.integers(0, 2**63), b_max=st.integers(0, 2**63), k=st.integers(1, 1 << 20), width=st.sampled_from([8, 16, 32, 64])
)
def test_a_split_is_always_found_and_always_exact(a_max: int, b_max: int, k: int, width: int) -> None:
    split = exact.choose_split(a_max, b_max, k, width)
    assert all(bound <= 2**53 and shift < width for shift, _, _, bound in split.pairs)
    assert len(split.pairs) >= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.integers(2, 8))
def test_digits_add_up_and_stay_within_their_bounds(values: list[int], count: int) -> None:
    x = np.array([values])
    bits, bounds = exact._digit_bounds(exact.magnitude(x), count)
    cut = exact.digits(x, bits, count)
    assert all(np.abs(digit).max() <= bound for digit, bound in zip(cut, bounds, strict=True))
    total = [sum(int(digit[0, i]) << (bits * place) for place, digit in enumerate(cut)) for i in range(len(values))]
    assert [t % 2**64 for t in total] == [v % 2**64 for v in values]


def test_the_worst_integers_take_six_digits_at_most() -> None:
    """What ``tilefleet.footprint`` counts on."""
    for width in (32, 64):
        for k in (1, 256, exact.DIGIT_DEPTH):
            for a_max, b_max in itertools.product([2**31, 2**32, 2**50, 2**63], repeat=2):
                split = exact.choose_split(a_max, b_max, k, width)
                assert split.n_a + split.n_b <= 6


@pytest.mark.parametrize("order", ["C", "F"])
def test_blas_accumulates_in_place_on_slices(order: Literal["C", "F"]) -> None:
    rng = np.random.default_rng(0)
    a = np.array(rng.normal(size=(40, 60)), order=order)[3:20, 5:50]
    b = np.array(rng.normal(size=(60, 50)), order=order)[5:50, 7:30]
    c = np.ones((17, 23))
    blas.accumulate(a, b, c)
    np.testing.assert_allclose(c, 1 + a @ b, rtol=1e-12)


def test_blas_refuses_shapes_and_types_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="cannot accumulate"):
        blas.accumulate(np.ones((2, 3)), np.ones((4, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="cannot accumulate"):
        blas.accumulate(np.ones((2, 3), np.float32), np.ones((3, 2)), np.ones((2, 2)))


def test_a_dtype_that_numpy_would_not_give_is_refused() -> None:
    with pytest.raises(ValueError, match="in NumPy"):
        BlockProduct(1, 1, 1, np.dtype("int64"), np.dtype("uint64"), np.dtype("int64"), 0)


def test_blas_lets_other_threads_run() -> None:
    """scipy.linalg.blas would hold the interpreter's lock until the product is done."""
    a, c = np.ones((1200, 1200)), np.zeros((1200, 1200))
    done, ticks = threading.Event(), 0

    def multiply() -> None:
        for _ in range(5):
            blas.accumulate(a, a, c)
        done.set()

    thread = threading.Thread(target=multiply)
    thread.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0.0005)
    thread.join()
    assert ticks > 10


def test_threads() -> None:
    assert all(threads == 1 for threads in blas.set_threads(1).values())
