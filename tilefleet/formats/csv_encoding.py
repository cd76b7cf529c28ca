"""Arrays to lines of CSV, pure on bytes.

The rule: Arrow's texts of numbers, which are the shortest that read back bit for bit. How it is fast: of float64 within
[1e-5, 1e10) msgspec writes the same texts, as lines of JSON in less than half the time; what it would write in another way is
put in between as Arrow writes it, unless there is much of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

_PIECE_ELEMENTS = 2**17  # elements encoded at a time
_LEAST, _TOO_LARGE = 1e-5, 1e10  # magnitudes of float64 that Arrow and msgspec write without an exponent
_MOST_RAW = 16  # one in so many elements may be written otherwise before Arrow had better write them all
_ENCODER = msgspec.json.Encoder()


def encode(block: np.ndarray) -> bytes:
    """The rows of a block as lines that read back bit for bit as the block's dtype.

    Shortest digits for floats, always with a point or an exponent (``1.0``); complex as ``(1+2j)``, complex64 with the
    digits of its value as complex128; bool as ``1`` and ``0``, which every reader takes for numbers.
    """
    step = max(1, _PIECE_ELEMENTS // max(1, block.shape[1]))
    if block.shape[1] == 0:
        return b""
    return b"".join(_encode_rows(block[row : row + step]) for row in range(0, block.shape[0], step))


def _encode_rows(block: np.ndarray) -> bytes:
    block = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    if block.dtype == np.float64:
        is_exact = _is_written_alike(block)
        if np.count_nonzero(is_exact) * _MOST_RAW >= (_MOST_RAW - 1) * block.size:
            return _encode_with_msgspec(block, is_exact)
    return _encode_with_arrow(block)


def _is_written_alike(block: np.ndarray) -> np.ndarray:
    """Where msgspec writes the same text as Arrow does; both write the shortest digits, with an exponent at other magnitudes."""
    magnitude = np.abs(block)
    is_exact: np.ndarray = ((magnitude >= _LEAST) & (magnitude < _TOO_LARGE)) | (magnitude == 0)
    return is_exact


def _encode_with_msgspec(block: np.ndarray, is_exact: np.ndarray) -> bytes:
    rows: list[list[float | msgspec.Raw]] = block.tolist()
    at = np.nonzero(~is_exact)
    if len(at[0]):
        for i, j, text in zip(*(index.tolist() for index in at), _texts(block[at]).to_pylist(), strict=True):
            rows[i][j] = msgspec.Raw(text)
    return _ENCODER.encode_lines(rows).translate(None, b"[]")


def _encode_with_arrow(block: np.ndarray) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, cols = block.shape
    fields = _texts(block.reshape(-1))
    lines = pc.binary_join(pa.ListArray.from_arrays(np.arange(0, rows * cols + 1, cols, dtype=np.int32), fields), ",")
    joined = pc.binary_join(pa.ListArray.from_arrays(np.array([0, rows], np.int32), lines), "\n")
    return bytes(joined[0].as_buffer()) + b"\n"


def _texts(flat: np.ndarray) -> pa.StringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if flat.dtype.kind == "c":
        return _complex_texts(flat.astype(np.complex128))
    if flat.dtype.kind == "b":
        flat = flat.view(np.uint8)
    texts = pc.cast(pa.array(flat), pa.string())
    if flat.dtype.kind == "f" and (flat == np.trunc(flat)).any():
        is_whole = pc.match_substring_regex(texts, "^-?[0-9]+$")  # 1 and -0 would be read as integers
        return pc.binary_join_element_wise(texts, pc.if_else(is_whole, ".0", ""), "")
    return texts


def _complex_texts(flat: np.ndarray) -> pa.StringArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    real, imag = (pc.cast(pa.array(np.ascontiguousarray(part)), pa.string()) for part in (flat.real, flat.imag))
    sign = pc.if_else(pc.starts_with(imag, "-"), "", "+")
    return pc.binary_join_element_wise("(", real, sign, imag, "j)", "")
