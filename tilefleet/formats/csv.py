"""CSV without a header: lines of numbers to arrays, pure on bytes; the way back, ``encode``, is that of ``csv_encoding``.

The rules: fields are separated by commas and may be quoted or padded with blanks; blank lines are skipped; lines end in
``\\n`` or ``\\r\\n``; every other deviation is an error with its place. Types are int64 where every field is an integer that
fits it, else float64 (so integers of 2^63 and more become floats unless a dtype is given), complex128 for ``1+2j`` or
``(1+2j)``, bool where every field is a word ``True`` or ``False``. Floats are read to the nearest value of their type.

How it is fast: all fields of a text become one Arrow string array (no work per column), which is cast at once. Text that is
as programs write it is cast where it lies, the separators between the fields being nulls; other text is cleaned first. A text
that will not be cast is read again field by field, by a strict grammar, to say what is wrong and where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tilefleet.formats.csv_encoding import encode as encode  # noqa: PLC0414 - both ways are had here

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_BYTES = 2**20  # text cast at a time: what it needs stays in the cache
_OF_COMPLEX = b"j", b"J", b"("  # one of these is in every complex number that is no float
_EVERY_OTHER = 0x55  # eight bits of validity: fields, with a null for the separator after each
_NEWLINE, _COMMA = b"\n,"
_BLANKS = b" \t"
_BOM = b"\xef\xbb\xbf"
_PLAIN = b"0123456789.eE-,\n"  # all that programs write of finite floats; of these, only separators are not above ","

# None of these takes longer than its text is long, whatever the text: no run can be cut in two ways.
_BLANKS_AROUND = re.compile(rb"(?<=[,\n])[ \t]++|(?<![ \t])[ \t]++(?=[,\n])")
_QUOTED = re.compile(rb'(?:^|(?<=[,\n]))"[ \t]*+((?:[^",\n \t]++|[ \t]++(?!"))*+)[ \t]*+"(?=[,\n]|\Z)')
_PLUS = re.compile(rb"(^|(?<=[,\n]))\+(?=[0-9.infINF])")
_WORDS = re.compile(rb"(?:(?:true|false)[,\n])*", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(?:(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:e[+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE)


class CsvError(Exception):
    """What is wrong in a text, and where: whoever knows where the text lies in its file makes a sentence of it."""

    def __init__(self, offset_bytes: int, column: int, problem: str) -> None:
        super().__init__(problem)
        self.offset_bytes = offset_bytes
        """Where the line begins in the text."""
        self.column = column
        """1-based; 0 when it is about the whole line."""
        self.problem = problem

    def later(self, n_bytes: int) -> CsvError:
        """The same in a text that has ``n_bytes`` more before it."""
        return CsvError(self.offset_bytes + n_bytes, self.column, self.problem)


class Scanned(NamedTuple):
    """Columns (0 when there was no line) and the widest type of a text."""

    cols: int
    dtype: str


def widest(dtypes: Iterable[str]) -> str:
    """The narrowest of the types a scan may find that holds all of these; bool for none, since it widens to any other."""
    return np.result_type(*map(np.dtype, dtypes), np.dtype(bool)).name


def row_starts(text: bytes) -> np.ndarray:
    """Offsets in a text of whole lines at which its lines that are not blank begin; int64, shape (rows,)."""
    raw = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(raw == _NEWLINE) + 1
    starts = np.concatenate((np.zeros(1, np.int64), ends))
    starts = starts[starts < len(text)]
    is_blank = np.isin(raw[starts], np.frombuffer(b"\n\r \t\xef", np.uint8))  # it may be: look at the whole line
    for index in np.flatnonzero(is_blank):
        is_blank[index] = not text[starts[index] : _line_end(text, starts[index])].removeprefix(_BOM).strip(b" \t\r\n")
    return starts[~is_blank]


def scan(text: bytes, cols: int = 0, dtype: str = "bool", *, is_typed: bool = False, start: int = 0) -> Scanned:
    """Columns and widest type of a text of whole lines, given what was found before it (``cols`` 0: nothing).

    ``is_typed``: the type is settled, only columns are counted; ``start``: where a line begins, those before it are left out.
    Raises CsvError for ragged lines and what is no number.
    """
    for offset, piece in _pieces(text, start):
        clean = _clean(piece)
        if clean.text:
            cols = cols or clean.text.count(b",", 0, clean.text.index(b"\n")) + 1
            found = _scan_piece(clean, cols, dtype, is_typed=is_typed)
            if found is None:
                _read_slowly(piece, offset, cols, None if is_typed else np.dtype(complex))
            dtype = found or "complex128"
    return Scanned(cols, dtype)


def survey(text: bytes, starts: np.ndarray, cols: int, dtype: str, *, is_typed: bool = False) -> Scanned:
    """As ``scan``, of a text that will be parsed as what is found, so that what cannot change that is left to the parse.

    ``starts`` are the text's ``row_starts``. Once the type is settled, or as wide as what the text can hold, only the columns of
    the first line are looked at; ragged lines and what is no number are found by ``parse``, with the same words.
    """
    if not len(starts):
        return Scanned(cols, dtype)
    first = int(starts[0])
    if is_typed:
        return Scanned(cols or text.count(b",", first, _line_end(text, first)) + 1, dtype)
    looked_at = 0
    if dtype not in ("float64", "complex128"):
        looked_at = _line_end(text, min(first + PIECE_BYTES, len(text)) - 1)
        cols, dtype = scan(text[:looked_at], cols, dtype)
    is_settled = dtype == "complex128" or (dtype == "float64" and not any(letter in text for letter in _OF_COMPLEX))
    return Scanned(cols, dtype) if is_settled else scan(text, cols, dtype, start=looked_at)


def parse(text: bytes, cols: int, dtype: np.dtype) -> np.ndarray:
    """The elements of a text of whole lines; shape (rows, cols). Raises CsvError for the first that does not fit."""
    bands = list(_bands(text, cols, dtype))
    return np.concatenate(bands) if bands else np.empty((0, cols), dtype)


def parse_into(text: bytes, out: np.ndarray) -> int:
    """The elements of a text of whole lines to the first rows of ``out``; how many rows. Raises CsvError as ``parse`` does."""
    filled = 0
    for band in _bands(text, out.shape[1], out.dtype):
        out[filled : filled + len(band)] = band
        filled += len(band)
    return filled


# ---- text to fields -------------------------------------------------------------------------------------------------


def _pieces(text: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(offset, whole lines) of about ``PIECE_BYTES``."""
    for begin, end in _cuts(text, start):
        yield begin, text[begin:end]


def _cuts(text: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """Where the pieces begin and end."""
    while start < len(text):
        end = _line_end(text, min(start + PIECE_BYTES, len(text)) - 1)
        yield start, end
        start = end


def _line_end(text: bytes, position: int) -> int:
    newline = text.find(b"\n", position)
    return len(text) if newline < 0 else newline + 1


class _Clean(NamedTuple):
    """Lines without blanks around fields, quotes, leading plus signs, carriage returns and blank lines."""

    text: bytes
    is_plain: bool
    """There is nothing but ``_PLAIN`` in it."""


def _clean(text: bytes) -> _Clean:
    is_plain = not text.translate(None, _PLAIN)
    return _Clean(_without_blank_lines(text if is_plain else _cleaned(text)), is_plain)


def _cleaned(text: bytes) -> bytes:
    text = text.removeprefix(_BOM)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if b" " in text or b"\t" in text:
        text = text.replace(b", ", b",").strip(_BLANKS)
        if b" " in text or b"\t" in text:
            text = _BLANKS_AROUND.sub(b"", text)
    if b'"' in text:
        text = _QUOTED.sub(rb"\1", text)
    if b"+" in text and (b",+" in text or b"\n+" in text or text.startswith(b"+")):
        text = _PLUS.sub(b"", text)
    return text


def _without_blank_lines(text: bytes) -> bytes:
    if b"\n\n" in text or text.startswith(b"\n"):
        text = re.sub(rb"\n\n+", b"\n", text).lstrip(b"\n")
    return text if not text or text.endswith(b"\n") else text + b"\n"


def _field_ends(clean: _Clean, cols: int) -> np.ndarray | None:
    """Where the separator after each field is, row by row; None when some line does not have ``cols`` fields."""
    raw = np.frombuffer(clean.text, np.uint8)
    ends = np.flatnonzero(raw <= _COMMA if clean.is_plain else (raw == _NEWLINE) | (raw == _COMMA))
    n_rows = clean.text.count(b"\n")
    is_even = len(ends) == n_rows * cols and bool((raw[ends[cols - 1 :: cols]] == _NEWLINE).all())
    return ends if is_even else None


def _fields(clean: bytes, ends: np.ndarray) -> pa.StringArray:
    """All fields, row by row, in one array."""
    import pyarrow as pa

    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends - np.arange(len(ends))  # where each field ends once the separators are taken out
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(clean.translate(None, b",\n")))


# ---- fields to elements ---------------------------------------------------------------------------------------------


def _scan_piece(clean: _Clean, cols: int, dtype: str, *, is_typed: bool) -> str | None:
    """The widest type of what came before and this; None when it is ragged or not of numbers.

    Plain text with a point in it can be nothing narrower or wider than float64; whether each field is a number shows when it is
    parsed.
    """
    ends = _field_ends(clean, cols)
    if ends is None or is_typed:
        return None if ends is None else dtype
    candidates = [name for name in ("int64", "float64") if np.can_cast(dtype, name)]
    if b"." in clean.text:
        if clean.is_plain:
            return widest((dtype, "float64"))
        candidates = candidates[-1:]  # none of them integers: do not try
    fields = _fields(clean.text, ends)
    for name in candidates:
        if _cast(clean.text, fields, np.dtype(name)) is not None:
            return name
    if _WORDS.fullmatch(clean.text):
        return dtype
    return "complex128" if _cast(clean.text, fields, np.dtype(complex)) is not None else None


def _bands(text: bytes, cols: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The elements of a text, piece by piece; a band may be a view that is not contiguous."""
    is_plain = dtype.kind in "iuf" and text.isascii() and not any(letter in text for letter in (b"x", b"X"))
    for start, end in _cuts(text):
        band = _cast_in_place(text, start, end, cols, dtype) if is_plain else None
        if band is None:
            with np.errstate(over="ignore"):  # 1e40 as float32 is inf, as it is everywhere
                band = _parse_piece(text[start:end], start, cols, dtype)
        yield band


def _cast_in_place(text: bytes, start: int, end: int, cols: int, dtype: np.dtype) -> np.ndarray | None:
    """The elements of a piece in which nothing is to be cleaned; None when something is, or is wrong.

    Of its bytes only separators are not above a comma, so there are no blanks, quotes, plus signs, parentheses nor carriage
    returns. Where the separators are shows that lines have ``cols`` fields; a blank one is an empty field, which is not cast.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = np.frombuffer(text, np.uint8, end - start, start)
    ends = np.flatnonzero(raw <= _COMMA)
    if not len(ends) or len(ends) % cols or ends[-1] != len(raw) - 1:
        return None
    separators = raw[ends].reshape(-1, cols)
    if not ((separators[:, -1] == _NEWLINE).all() and (separators[:, :-1] == _COMMA).all()):
        return None
    offsets = np.zeros(2 * len(ends) + 1, np.int32)
    offsets[1::2] = ends
    offsets[2::2] = offsets[1::2] + 1
    is_field = np.full(len(ends) // 4 + 1, _EVERY_OTHER, np.uint8)
    fields = pa.StringArray.from_buffers(2 * len(ends), *map(pa.py_buffer, (offsets, raw, is_field)))
    try:
        elements = pc.cast(fields, pa.from_numpy_dtype(dtype))
    except pa.ArrowInvalid:
        return None
    return np.frombuffer(elements.buffers()[1], dtype, 2 * len(ends))[::2].reshape(-1, cols)


def _parse_piece(piece: bytes, offset: int, cols: int, dtype: np.dtype) -> np.ndarray:
    clean = _clean(piece)
    if not clean.text:
        return np.empty((0, cols), dtype)
    ends = _field_ends(clean, cols)
    values = None if ends is None else _cast(clean.text, _fields(clean.text, ends), dtype)
    if values is None:
        values = np.array(_read_slowly(piece, offset, cols, dtype), dtype)
    return values.reshape(-1, cols)


def _cast(clean: bytes, fields: pa.StringArray, dtype: np.dtype) -> np.ndarray | None:
    """Elements of all fields, shape (fields,); None when one is not of that type, or doubtful."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not clean.isascii():
        return None
    if dtype.kind == "c":
        return _cast_complex(clean, fields, dtype)
    if any(letter in clean for letter in (b"x", b"X", b"(")):  # Arrow reads 0x10 and nan(1), which are no decimal numbers
        return None
    try:
        values: np.ndarray = pc.cast(fields, pa.from_numpy_dtype(dtype)).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return values


def _cast_complex(clean: bytes, fields: pa.StringArray, dtype: np.dtype) -> np.ndarray | None:
    if b"_" in clean:
        return None
    try:
        return np.array([complex(field) for field in fields.to_pylist()], dtype)
    except ValueError:
        return None


def _read_slowly(piece: bytes, offset: int, cols: int, dtype: np.dtype | None) -> list[list[Any]]:
    """Rows of a text, field by field; None for the dtype looks at the number of fields only. Raises CsvError."""
    rows = []
    for line in piece.split(b"\n"):
        fields = [_unquoted(field) for field in line.removeprefix(_BOM).strip(b" \t\r").split(b",")]
        if fields != [""]:
            if len(fields) != cols:
                raise CsvError(offset, 0, f"has {_n_fields(fields)} where the lines before have {cols}")
            if dtype is not None:
                rows.append([_element(fields, index, offset, dtype) for index in range(cols)])
        offset += len(line) + 1
    return rows


def _n_fields(fields: list[str]) -> str:
    counted = f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
    return f"{counted} (it ends in a comma)" if fields[-1] == "" else counted


def _unquoted(field: bytes) -> str:
    text = field.strip(_BLANKS).decode("utf-8", errors="replace")
    return text[1:-1].strip(" \t") if len(text) > 1 and text[0] == text[-1] == '"' else text


def _element(fields: list[str], index: int, offset: int, dtype: np.dtype) -> Any:
    text = fields[index]
    element = _element_of(text, dtype)
    if element is None:
        is_last = index == len(fields) - 1
        raise CsvError(offset, index + 1, _problem(text, dtype, is_last=is_last))
    return element


def _element_of(text: str, dtype: np.dtype) -> Any:
    if dtype.kind == "b" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        is_inside = _INTEGER.fullmatch(text) and len(text) < 40 and info.min <= int(text) <= info.max
        return int(text) if is_inside else None
    if _REAL.fullmatch(text):
        return dtype.type(text) if dtype.kind == "f" else float(text)
    return _complex_of(text) if dtype.kind == "c" else None


def _complex_of(text: str) -> complex | None:
    if not text.isascii() or "_" in text:
        return None
    try:
        return complex(text)
    except ValueError:
        return None


def _problem(text: str, dtype: np.dtype, *, is_last: bool) -> str:
    shown = repr(text if len(text) <= 40 else text[:37] + "...")
    if not text:
        return "the field is empty" + ("; remove the comma at the end of the line, or fill it in" if is_last else "; fill it in")
    if dtype.kind in "iu" and _INTEGER.fullmatch(text):
        info = np.iinfo(dtype)
        return f"{shown} is outside the range of {dtype.name}, {info.min} to {info.max}; choose a wider type"
    if dtype.kind in "iu" and _REAL.fullmatch(text):
        return f"{shown} is not an integer; choose float64 instead of {dtype.name}"
    if dtype.kind != "c" and _complex_of(text) is not None:
        return f"{shown} is a complex number; choose complex128 instead of {dtype.name}"
    if any(separator in text for separator in ";\t "):
        return f"{shown} is not a number; fields must be separated by commas"
    return f"{shown} is not a number"
