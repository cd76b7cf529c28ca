"""The range of random elements as people write it: ``low`` ≤ element < ``high``, held against an element type."""

from __future__ import annotations

import numpy as np

from tilefleet.dtypes import Scalar, parse_scalar
from tilefleet.errors import BadInput


def parse_range(low: str | Scalar, high: str | Scalar, dtype: np.dtype) -> tuple[Scalar, Scalar]:
    """Both ends as int (integer types and bool), float, or complex. Integer ends may reach one past the type's largest.

    Raises BadInput for an end that is no number, not of the type's kind or out of its range, and for an empty range.
    """
    ends = (_parse_end(low, "low", dtype), _parse_end(high, "high", dtype))
    pairs = [(ends[0].real, ends[1].real), (ends[0].imag, ends[1].imag)] if dtype.kind == "c" else [ends]
    if not all(start < end for start, end in pairs):  # type: ignore[operator]  # complex was taken apart
        raise BadInput(f"random elements from {low} up to {high} leave nothing to choose as {dtype.name}; low must be below high")
    return ends


def _parse_end(end: str | Scalar, name: str, dtype: np.dtype) -> Scalar:
    value = parse_scalar(end) if isinstance(end, str) else end
    if dtype.kind in "biu":
        return _whole(value, name, dtype)
    if dtype.kind == "f" and isinstance(value, complex):
        raise BadInput(f"{name} is {value}, but elements of type {dtype.name} are real; choose complex64 or complex128")
    with np.errstate(over="ignore"):
        rounded = dtype.type(value)
    if not np.isfinite(rounded):
        raise BadInput(f"{name} is {value}, which is beyond what {dtype.name} holds")
    if dtype.kind == "f":
        return float(rounded)
    return complex(rounded) if isinstance(value, complex) else complex(rounded.real, rounded.real)


def _whole(value: Scalar, name: str, dtype: np.dtype) -> int:
    if isinstance(value, complex) or value != value or value in (float("inf"), float("-inf")) or value != int(value):  # noqa: PLR0124
        raise BadInput(f"{name} is {value}, but elements of type {dtype.name} are whole numbers")
    least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if not least <= value <= most + 1:
        raise BadInput(f"{name} is {value}, but {dtype.name} holds {least} to {most}")
    return int(value)
