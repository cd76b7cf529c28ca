"""Sums and epilogues against NumPy, dtype by dtype."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from tests.unit.kernels.examples import DTYPES, full_range
from tilefleet.dtypes import Scalar
from workerd.kernels import elementwise

FACTORS: list[Scalar | None] = [None, 1, 3, 0.5, 2 + 1j]


def same(actual: np.ndarray, expected: np.ndarray) -> bool:
    return actual.dtype == expected.dtype and actual.shape == expected.shape and actual.tobytes() == expected.tobytes()


def scaled(factor: Scalar | None, x: np.ndarray) -> np.ndarray:
    return x if factor is None else np.asarray(factor * x)


@pytest.mark.parametrize(("left", "right"), list(itertools.product(DTYPES, DTYPES)), ids=str)
def test_sums_differences_and_epilogues_are_numpys(left: np.dtype, right: np.dtype) -> None:
    rng = np.random.default_rng(0)
    x, y = full_range(rng, (7, 5), left), full_range(rng, (5, 7), right).T
    for f, g in itertools.product(FACTORS, FACTORS):
        with np.errstate(all="ignore"):
            expected = scaled(f, x) + scaled(g, y)
        assert same(elementwise.combine([(f, x), (g, y)], is_subtraction=False), expected)
        assert same(elementwise.epilogue(x.copy(), f, g, y), expected)
        assert same(elementwise.epilogue(x.copy(), f, None, None), scaled(f, x))
        if expected.dtype.kind != "b":
            with np.errstate(all="ignore"):
                difference = scaled(f, x) - scaled(g, y)
            assert same(elementwise.combine([(f, x), (g, y)], is_subtraction=True), difference)


def test_overflow_and_nan_give_values_and_no_warning() -> None:
    x = np.array([[1e308, np.inf, np.nan]])
    assert elementwise.combine([(10.0, x)], is_subtraction=False).tolist()[0][:2] == [np.inf, np.inf]
    assert np.isnan(elementwise.combine([(None, x), (None, x)], is_subtraction=True)[0, 1])


def test_one_term_is_not_copied_and_a_product_is_used_up() -> None:
    x, c = np.ones((3, 4)), np.ones((3, 4))
    assert elementwise.combine([(None, x)], is_subtraction=False) is x
    assert elementwise.epilogue(x, None, None, None) is x
    assert elementwise.epilogue(x, 2, 3, c) is x
    assert (x == 5).all() and (c == 1).all()


@pytest.mark.parametrize(("dtype", "target"), list(itertools.product(DTYPES, DTYPES)), ids=str)
def test_casts_are_those_of_astype(dtype: np.dtype, target: np.dtype) -> None:
    x = np.array([[0, 1, 2, 100], [3, 7, 50, 4]]).astype(dtype).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        expected, halved = x.astype(target), (x * 0.5).astype(target)
    assert same(elementwise.combine([(None, x)], is_subtraction=False, dtype=target), expected)
    assert same(elementwise.combine([(0.5, x)], is_subtraction=False, dtype=target), halved)


def test_what_a_type_cannot_hold_is_cast_without_a_warning() -> None:
    x = np.array([[1e300, np.nan, -1.0], [2.5, 3.5 + 9j, 0.5j]])
    assert elementwise.combine([(None, x)], is_subtraction=False, dtype=np.dtype("float32"))[0, 0] == np.inf
    assert elementwise.combine([(None, x)], is_subtraction=False, dtype=np.dtype("int64"))[1].tolist() == [2, 3, 0]
    assert elementwise.combine([(None, x)], is_subtraction=False, dtype=np.dtype("bool"))[1].tolist() == [True, True, True]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 100_000), (100_000, 1)])
def test_thin_and_empty_ones(shape: tuple[int, int]) -> None:
    x = np.ones(shape, np.int32)
    assert same(elementwise.combine([(2, x), (None, x)], is_subtraction=False), 3 * x)


def test_differences_are_counted_with_nan_equal_to_nan() -> None:
    actual = np.array([[0.0, np.nan], [1.0, 2.0], [np.nan, 5.0]])
    expected = np.array([[-0.0, np.nan], [1.0, 3.0], [0.0, 5.0]])
    assert elementwise.count_differences(actual, actual) == (0, -1)
    assert elementwise.count_differences(actual, expected) == (2, 1)
    assert elementwise.count_differences(np.asfortranarray(actual), expected) == (2, 1)
    assert elementwise.count_differences(np.array([[True]]), np.array([[False]])) == (1, 0)
