"""The element types tilefleet computes with, and NumPy's rules for mixing them."""

from __future__ import annotations

from typing import Final

import numpy as np

from tilefleet.errors import BadInput

SUPPORTED: Final = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float32", "float64", "complex64", "complex128",
)  # fmt: skip

Scalar = bool | int | float | complex


def parse_dtype(name: str, where: str = "dtype") -> np.dtype:
    """The little-endian dtype of that name. Raises BadInput when it is not one of ``SUPPORTED``."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = None
    if dtype is None or dtype.newbyteorder("=").name not in SUPPORTED:
        known = name if dtype is None else dtype.name
        raise BadInput(
            f"{where} has element type {known!r}, which tilefleet does not compute with; use one of {', '.join(SUPPORTED)}"
        )
    return dtype.newbyteorder("<")


def parse_scalar(text: str) -> Scalar:
    """``"2"`` → int, ``"0.5"`` → float, ``"1+2j"`` → complex. Raises BadInput otherwise."""
    for kind in (int, float, complex):
        try:
            return kind(text)
        except ValueError:
            continue
    raise BadInput(f"{text!r} is not a number; write one like 2, 0.5, 1e-3 or 1+2j")


def scaled_dtype(scalar: Scalar | None, dtype: np.dtype) -> np.dtype:
    """The dtype of ``scalar * array`` under NumPy's rules for Python scalars (NEP 50); None means no multiplication.

    Raises BadInput where NumPy raises: an integer scalar that the array's integer type cannot hold.
    """
    if scalar is None:
        return dtype
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # 1e300 times float32 is inf, and float32
            return (np.ones(1, dtype) * scalar).dtype
    except OverflowError as error:
        raise BadInput(
            f"the factor {scalar} does not fit the element type {dtype.name}; make a matrix of a wider type first: "
            "'tilefleet convert A OUT --dtype int64'"
        ) from error


def added_dtype(left: np.dtype, right: np.dtype, *, is_subtraction: bool = False) -> np.dtype:
    """The dtype of ``left ± right``. Raises BadInput for bool - bool, as NumPy does."""
    if is_subtraction and left == right == np.dtype(bool):
        raise BadInput(
            "NumPy does not subtract bool from bool; make one an integer matrix first: 'tilefleet convert A OUT --dtype int8'"
        )
    return np.result_type(left, right)
