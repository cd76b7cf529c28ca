"""The element types tilefleet computes with, and NumPy's rules for mixing them.

The rule: what a command asks before it submits needs no NumPy, which takes a tenth of a second to load: names, sizes and
promotion are known here (tests hold them to NumPy's own). Whatever else is asked, NumPy answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from tilefleet.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

_CODES: Final[Mapping[str, str]] = {
    "bool": "b1", "int8": "i1", "int16": "i2", "int32": "i4", "int64": "i8", "uint8": "u1", "uint16": "u2", "uint32": "u4",
    "uint64": "u8", "float32": "f4", "float64": "f8", "complex64": "c8", "complex128": "c16",
}  # fmt: skip
"""Name → NumPy's kind and bytes of an element."""
_NAMES: Final = {code: name for name, code in _CODES.items()}
SUPPORTED: Final = tuple(_CODES)

DtypeName = Annotated[str, msgspec.Meta(pattern=rf"^(?:{'|'.join(SUPPORTED)})\Z")]
"""In messages and records: the name of a supported type, and nothing else."""

Scalar = bool | int | float | complex


def parse_dtype(name: str, where: str = "dtype") -> np.dtype:
    """The little-endian dtype of that name. Raises BadInput when it is not one of ``SUPPORTED``."""
    import numpy as np

    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError, DeprecationWarning):  # NumPy takes more than names for a type, and parses it
        dtype = None
    if dtype is None or dtype.name not in SUPPORTED:
        known = name if dtype is None else dtype.name
        raise BadInput(
            f"{where} has element type {known!r}, which tilefleet does not compute with; use one of {', '.join(SUPPORTED)}"
        )
    return dtype.newbyteorder("<")


def dtype_name(name: str, where: str = "dtype") -> str:
    """As ``parse_dtype``, but only its name: ``"<f8"`` → ``"float64"``."""
    if name in _CODES:
        return name
    if name[:1] in ("<", ">", "|", "=") and name[1:] in _NAMES:
        return _NAMES[name[1:]]
    return parse_dtype(name, where).name


def kind_of(name: str) -> str:
    """NumPy's letter for the kind of a supported type: b, i, u, f or c."""
    return _CODES[name][0]


def item_bytes(name: str) -> int:
    """Bytes of an element of a supported type."""
    return int(_CODES[name][1:])


def promoted(left: str, right: str) -> str:
    """The supported type that holds both, as ``numpy.result_type`` has it."""
    low, high = sorted((left, right), key=lambda name: ("biufc".index(kind_of(name)), item_bytes(name)))
    if kind_of(low) == kind_of(high) or kind_of(low) == "b":
        return high
    if kind_of(high) == "u":  # a signed type beside it
        return low if item_bytes(low) > item_bytes(high) else _NAMES.get(f"i{2 * item_bytes(high)}", "float64")
    n_parts = 2 if kind_of(high) == "c" else 1
    exact_bytes = item_bytes(low) if kind_of(low) == "f" else 4 if item_bytes(low) <= 2 else 8  # float32 holds 16 bits whole
    return _NAMES[f"{kind_of(high)}{max(item_bytes(high), n_parts * exact_bytes)}"]


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
    import numpy as np

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
    import numpy as np

    return np.dtype(added_name(left.name, right.name, is_subtraction=is_subtraction)).newbyteorder("<")


def added_name(left: str, right: str, *, is_subtraction: bool = False) -> str:
    """As ``added_dtype``, by names."""
    if is_subtraction and left == right == "bool":
        raise BadInput(
            "NumPy does not subtract bool from bool; make one an integer matrix first: 'tilefleet convert A OUT --dtype int8'"
        )
    return promoted(left, right)
