"""Element types: NumPy's rules, asked of NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet.dtypes import (
    SUPPORTED,
    Scalar,
    added_dtype,
    dtype_name,
    item_bytes,
    kind_of,
    parse_dtype,
    parse_scalar,
    promoted,
    scaled_dtype,
)
from tilefleet.errors import BadInput


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_supported_type_is_read_little_endian(name: str) -> None:
    assert parse_dtype(name) == np.dtype(name).newbyteorder("<")
    assert parse_dtype(np.dtype(name).newbyteorder(">").str) == np.dtype(name).newbyteorder("<")


@pytest.mark.parametrize(("left", "right"), list(itertools.product(SUPPORTED, SUPPORTED)))
def test_promotion_is_numpys(left: str, right: str) -> None:
    assert promoted(left, right) == np.result_type(np.dtype(left), np.dtype(right)).name


@pytest.mark.parametrize("name", SUPPORTED)
def test_names_kinds_and_sizes_are_numpys(name: str) -> None:
    dtype = np.dtype(name)
    assert (kind_of(name), item_bytes(name)) == (dtype.kind, dtype.itemsize)
    for order in "<>|=":
        assert dtype_name(order + dtype.str[1:]) == np.dtype(order + dtype.str[1:]).name == name
    assert dtype_name(dtype.char) == name  # NumPy's answer
    with pytest.raises(BadInput, match="float16"):
        dtype_name("<f2")


@pytest.mark.parametrize(
    "name", ["float16", "object", "O", "U5", "S3", "datetime64[s]", "longdouble", "nonsense", "", "i4,f8", "{", "V8"]
)
def test_another_type_is_refused_with_those_that_work(name: str) -> None:
    with pytest.raises(BadInput, match=r"^a\.npy has element type .* use one of bool, int8, .*complex128$"):
        parse_dtype(name, "a.npy")


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("-7", -7), ("0.5", 0.5), ("1e-3", 1e-3), ("1+2j", 1 + 2j), ("inf", float("inf")), ("2j", 2j)]
)
def test_scalars(text: str, value: Scalar) -> None:
    assert parse_scalar(text) == value
    assert type(parse_scalar(text)) is type(value)


@given(st.integers() | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False, allow_infinity=False))
def test_a_written_scalar_reads_back(value: Scalar) -> None:
    assert parse_scalar(str(value)) == value


@pytest.mark.parametrize("text", ["", "two", "1 2", "0x10", "1;2", "[1]"])
def test_what_is_no_number_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="is not a number; write one like 2"):
        parse_scalar(text)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("scalar", [True, 2, -1, 300, 2**40, 2**70, 0.5, 1e300, 1j])
def test_scaling_promotes_as_numpy_does(name: str, scalar: Scalar) -> None:
    try:
        with np.errstate(all="ignore"):
            expected = (np.ones((2, 2), name) * scalar).dtype
    except OverflowError:
        with pytest.raises(BadInput, match="does not fit the element type"):
            scaled_dtype(scalar, np.dtype(name))
    else:
        assert scaled_dtype(scalar, np.dtype(name)) == expected


def test_no_factor_changes_nothing() -> None:
    assert scaled_dtype(None, np.dtype("int8")) == np.dtype("int8")


@pytest.mark.parametrize(("left", "right"), [*itertools.product(SUPPORTED, SUPPORTED)])
def test_sums_promote_as_numpy_does(left: str, right: str) -> None:
    a, b = np.ones(1, left), np.ones(1, right)
    assert added_dtype(a.dtype, b.dtype) == (a + b).dtype
    if left == right == "bool":
        with pytest.raises(BadInput, match="does not subtract bool from bool"):
            added_dtype(a.dtype, b.dtype, is_subtraction=True)
    else:
        assert added_dtype(a.dtype, b.dtype, is_subtraction=True) == (a - b).dtype
