"""The header of ``.npy`` files, versions 1.0, 2.0 and 3.0; elements are ours to read and write.

The rule: only the header is interpreted, by literal syntax alone; nothing is ever unpickled.
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from tilefleet.dtypes import dtype_name, item_bytes
from tilefleet.errors import BadInput
from tilefleet.zarr_format import check_shape

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000  # numpy.load's own limit (max_header_size)
FIRST_BYTES = 12 + MAX_HEADER_BYTES
_ALIGNMENT = 64  # of the data in files NumPy writes


class Header(NamedTuple):
    """What the first bytes of a file say; ``dtype`` is a name, ``is_big_endian`` tells how the elements lie."""

    shape: tuple[int, int]
    dtype: str
    is_fortran_order: bool
    is_big_endian: bool
    data_offset_bytes: int


def parse_header(first: bytes, where: str = "the npy file") -> Header:
    """The header in the first ``FIRST_BYTES`` bytes of a file (or all of them when it is shorter).

    Raises BadInput, naming ``where``, when this is not a matrix in npy format, or holds Python objects.
    """
    text, data_offset_bytes = _header_text(first, where)
    fields = _fields(text, where)
    descr = fields["descr"]
    if not isinstance(descr, str):
        raise BadInput(f"{where} holds records with named fields, not a matrix of numbers; save one field of it")
    if "O" in descr:
        raise BadInput(f"{where} holds pickled Python objects, which are never loaded; save it with a numeric dtype")
    dtype = dtype_name(descr, where)
    if not isinstance(fields["fortran_order"], bool) or not isinstance(fields["shape"], tuple):
        raise BadInput(f"{where} has a damaged npy header: {text.strip()[:80]!r}")
    shape = check_shape(fields["shape"], where)
    is_big_endian = descr.startswith(">") and item_bytes(dtype) > 1
    return Header(shape, dtype, fields["fortran_order"], is_big_endian, data_offset_bytes)


def header_bytes(shape: tuple[int, int], dtype: np.dtype) -> bytes:
    """The header of a C-order little-endian file of version 1.0, byte for byte as ``numpy.save`` writes it."""
    import numpy as np

    descr = np.dtype(dtype).newbyteorder("<").str
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': ({int(shape[0])}, {int(shape[1])}), }}"
    text += " " * max(0, 21 - len(str(shape[0])))  # NumPy leaves room for the first length to grow
    padding = -(len(MAGIC) + 4 + len(text) + 1) % _ALIGNMENT
    header = text.encode("latin1") + b" " * padding + b"\n"
    return MAGIC + b"\x01\x00" + struct.pack("<H", len(header)) + header


def _header_text(first: bytes, where: str) -> tuple[str, int]:
    if not first.startswith(MAGIC):
        raise BadInput(f"{where} is not in npy format: it does not begin with the npy magic; save it with numpy.save")
    major = first[6] if len(first) > 6 else 0
    if major not in (1, 2, 3):
        raise BadInput(f"{where} is of npy version {major}; tilefleet reads versions 1, 2 and 3")
    start = 10 if major == 1 else 12
    if len(first) < start:
        raise _truncated(where)
    length = struct.unpack("<H" if major == 1 else "<I", first[8:start])[0]
    if length > MAX_HEADER_BYTES:
        raise BadInput(f"{where} claims a header of {length} bytes; a matrix needs under {MAX_HEADER_BYTES}: it is damaged")
    if len(first) < start + length:
        raise _truncated(where)
    text = first[start : start + length].decode("utf-8" if major == 3 else "latin1", errors="replace")
    return text, start + length


def _fields(text: str, where: str) -> dict[str, Any]:
    try:
        fields = ast.literal_eval(re.sub(r"\b(\d+)L\b", r"\1", text).strip())  # 3L: Python 2 wrote it
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        fields = None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise BadInput(f"{where} has a damaged npy header: {text.strip()[:80]!r}")
    return fields


def _truncated(where: str) -> BadInput:
    return BadInput(f"{where} is truncated: it ends inside its header; copy it again")
