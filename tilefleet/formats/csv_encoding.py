"""Arrays to lines of CSV, pure on bytes.

The rule: Arrow's texts of numbers, which are the shortest that read back bit for bit. How it is fast: orjson writes arrays as
JSON in a sixth of the time, and most numbers in the same text; those that it would write in another way are put in between as
Arrow writes them, unless there are many of them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

_PIECE_ELEMENTS = 2**17  # elements encoded at a time
_SMALL, _LEAST, _TOO_LARGE = 1e-6, 1e-5, 1e10  # magnitudes of floats that both write alike: [0, small) and [least, too large)
_MOST_OTHERS = 16  # one in so many elements may be written otherwise before Arrow had better write them all


def encode(block: np.ndarray) -> bytes:
    """The rows of a block as lines that read back bit for bit as the block's dtype.

    Shortest digits for floats, always with a point or an exponent (``1.0``); complex as ``(1+2j)``, complex64 with the
    digits of its value as complex128; bool as ``1`` and ``0``, which every reader takes for numbers.
    """
    step = max(1, _PIECE_ELEMENTS // max(1, block.shape[1]))
    if block.shape[1] == 0:
        return b""
    return b"".join(_encode_rows(block[row : row + step]) for row in range(0, block.shape[0], step))


def _encode_rows(block: np.ndarray) -> bytes | bytearray:
    block = np.ascontiguousarray(block, block.dtype.newbyteorder("="))
    if block.dtype.kind == "b":
        block = block.view(np.uint8)
    if block.dtype.kind in "iu":
        return _lines(bytearray(_json(block)))
    if block.dtype.kind == "f":
        others = ~_is_written_alike(block)
        if np.count_nonzero(others) * _MOST_OTHERS <= block.size:
            return _encode_with_orjson(block, others)
    return _encode_with_arrow(block)


def _is_written_alike(block: np.ndarray) -> np.ndarray:
    """Where orjson writes the same text as Arrow does; both write the shortest digits, with an exponent at other magnitudes."""
    magnitude = np.abs(block)
    is_alike: np.ndarray = (magnitude < _SMALL) | ((magnitude >= _LEAST) & (magnitude < _TOO_LARGE))
    return is_alike


def _encode_with_orjson(block: np.ndarray, others: np.ndarray) -> bytearray:
    if not others.any():
        return _lines(bytearray(_json(block)))
    text = _json(np.where(others, block.dtype.type(np.nan), block))
    nulls = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("n")).tolist()
    texts = (other.encode() for other in _texts(block[others]).to_pylist())
    between = (text[end + len("null") : start] for end, start in itertools.pairwise([*nulls, len(text)]))
    return _lines(bytearray().join([text[: nulls[0]], *itertools.chain.from_iterable(zip(texts, between, strict=True))]))


def _json(block: np.ndarray) -> bytes:
    """``[[1.5,2.5],[3.5,null]]``; null where there is no number."""
    import orjson

    return orjson.dumps(block, option=orjson.OPT_SERIALIZE_NUMPY)


def _lines(text: bytearray) -> bytearray:
    """Rows as JSON has them, as lines; the text is used up."""
    characters = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(characters == ord("]"))[:-1]
    characters[ends[:-1] + 1] = ord("[")  # the commas between rows
    characters[ends] = ord("\n")
    return text.translate(None, b"[]")


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
