"""CSV text to arrays and back: exact values, the documented grammar, and places of mistakes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tilefleet.dtypes import SUPPORTED
from tilefleet.formats import csv, csv_encoding

F8, I8, C16 = np.dtype("float64"), np.dtype("int64"), np.dtype("complex128")
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal bit for bit, but for which NaN a NaN is."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind == "c":
        return same_bits(left.real, right.real) and same_bits(left.imag, right.imag)
    is_nan = np.isnan(left) & np.isnan(right) if left.dtype.kind == "f" else np.zeros(left.shape, bool)
    bits = f"u{left.dtype.itemsize}"
    return bool(((np.ascontiguousarray(left).view(bits) == np.ascontiguousarray(right).view(bits)) | is_nan).all())


@pytest.fixture(params=[7, 2**20])
def in_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with pieces smaller than a line, once with all in one piece."""
    monkeypatch.setattr(csv, "PIECE_BYTES", request.param)


@pytest.mark.parametrize("name", SUPPORTED)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_encoded_reads_back_bit_for_bit(name: str, data: st.DataObject) -> None:
    block = data.draw(hnp.arrays(np.dtype(name), SHAPES))
    text = csv.encode(block)
    assert text.count(b"\n") == block.shape[0]
    assert same_bits(csv.parse(text, block.shape[1], block.dtype), block)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(st.sampled_from([F8, I8, C16]), SHAPES))
def test_a_scan_finds_the_type_that_was_written(block: np.ndarray) -> None:
    assert csv.scan(csv.encode(block)) == (block.shape[1], block.dtype.name)


def test_special_floats_survive_and_stay_floats() -> None:
    tiny = np.nextafter(0, 1)
    block = np.array([[np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -3.0, 1e16, 1e22, 1e300, tiny, 0.1]])
    text = csv.encode(block)
    assert text.startswith(b"nan,inf,-inf,-0.0,0.0,1.0,-3.0,")
    assert same_bits(csv.parse(text, 12, F8), block)
    assert csv.scan(csv.encode(np.ones((2, 2)))).dtype == "float64"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (np.array([[True, False]]), b"1,0\n"),
        (np.array([[1 + 2j, -0.5j]]), b"(1+2j),(-0-0.5j)\n"),
        (np.array([[-128], [127]], np.int8), b"-128\n127\n"),
        (np.array([[1, 2], [3, -4], [5, 6]]), b"1,2\n3,-4\n5,6\n"),
        (np.array([[2**64 - 1]], np.uint64), b"18446744073709551615\n"),
        (np.array([[0.1, 16777216.0]], np.float32), b"0.1,16777216.0\n"),
        (np.empty((0, 3)), b""),
        (np.empty((3, 0)), b""),
    ],
)
def test_the_written_form(block: np.ndarray, text: bytes) -> None:
    assert csv.encode(block) == text


def test_encoding_does_not_depend_on_strides_byte_order_or_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    block = np.arange(60.0).reshape(6, 10)
    whole = csv.encode(block)
    assert csv.encode(np.asfortranarray(block)) == csv.encode(block.astype(">f8")) == whole
    monkeypatch.setattr(csv_encoding, "_PIECE_ELEMENTS", 7)
    assert csv.encode(block) == whole


_MAGNITUDES = st.one_of(st.floats(), st.floats(-1e11, 1e11), st.floats(1e-7, 1e-4), st.integers(-(10**11), 10**11).map(float))


@settings(max_examples=200, deadline=None)
@given(st.lists(_MAGNITUDES, min_size=1, max_size=40), st.booleans(), st.sampled_from(["float64", "float32"]))
def test_both_ways_to_encode_floats_write_the_same(values: list[float], is_diluted: bool, dtype: str) -> None:
    with np.errstate(over="ignore"):
        block = np.array([values] + [[0.5] * len(values)] * (20 * is_diluted)).astype(dtype)
    expected = csv_encoding._encode_with_arrow(block)
    assert csv.encode(block) == expected
    assert csv_encoding._encode_with_orjson(block, ~csv_encoding._is_written_alike(block)) == expected


@pytest.mark.parametrize("bound", [1e-7, 1e-6, 1e-5, 1e-4, 1e9, 1e10, 1e15, 1e16])
def test_floats_around_where_the_form_changes(bound: float) -> None:
    around = [np.nextafter(bound, 0), bound, np.nextafter(bound, np.inf)]
    block = np.array([[0.25] * 100 + around + [-one for one in around]])
    assert csv.encode(block) == csv_encoding._encode_with_arrow(block)


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"[+-]?([0-9]{1,25}\.?[0-9]{0,25}|\.[0-9]{1,25})(e[+-]?[0-9]{1,3})?", fullmatch=True))
def test_floats_are_the_nearest_as_python_reads_them(text: str) -> None:
    assert same_bits(csv.parse(text.encode(), 1, F8), np.array([[float(text)]]))


@pytest.mark.parametrize("name", ["float64", "int64", "float32", "complex128"])
def test_what_savetxt_wrote_is_read_as_loadtxt_reads_it(name: str) -> None:
    block = (np.random.default_rng(1).standard_normal((20, 7)) * 1000).astype(name)
    for fmt in ("%d",) if name == "int64" else (None,):
        file = io.BytesIO()
        np.savetxt(file, block, delimiter=",", **({"fmt": fmt} if fmt else {}))
        text = file.getvalue()
        expected = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=name, ndmin=2)
        assert same_bits(csv.parse(text, 7, np.dtype(name)), expected)
        assert csv.scan(text) == (7, {"float32": "float64"}.get(name, name))


def test_loadtxt_reads_what_we_write() -> None:
    block = np.random.default_rng(2).standard_normal((9, 5))
    assert (np.loadtxt(io.BytesIO(csv.encode(block)), delimiter=",") == block).all()


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize(
    "text",
    [
        b"1,2\n3,4\n",
        b"1,2\n3,4",
        b"1,2\r\n3,4\r\n",
        b"1,2\r\n3,4",
        b"1,2\r\n3,4\r",
        b"\xef\xbb\xbf1,2\n3,4\n",
        b" 1, 2\n 3 ,4 \n",
        b"\t1\t,\t2\n3,4\n",
        b'"1","2"\n"3","4"\n',
        b'" 1 ", "2" \n3,4\n',
        b"+1,+2\n+3,+4\n",
        b"1,2\n\n3,4\n\n\n",
        b"\n1,2\n3,4\n",
        b"1,2\r\n\r\n3,4\r\n  \r\n",
        b"1,2\n \t \n3,4\n ",
        b"01,002\n3,4\n",
    ],
)
def test_spellings_of_the_same_matrix(text: bytes) -> None:
    expected = np.array([[1, 2], [3, 4]])
    assert csv.scan(text) == (2, "int64")
    assert len(csv.row_starts(text)) == 2
    for name in ("int64", "float64", "uint8", "complex64"):
        found = csv.parse(text, 2, np.dtype(name))
        assert found.dtype == name
        assert (found == expected).all()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"1,2\n", "int64"),
        (b"-9223372036854775808,9223372036854775807\n", "int64"),
        (b"9223372036854775808,1\n", "float64"),
        (b"1,2.5\n", "float64"),
        (b"1,1e3\n", "float64"),
        (b"nan,NaN\n", "float64"),
        (b"inf,-Infinity\n", "float64"),
        (b"1,1+2j\n", "complex128"),
        (b"(1+2j),3\n", "complex128"),
        (b"True,False\n", "bool"),
        (b"\n", "bool"),
    ],
)
def test_the_widest_type(text: bytes, name: str) -> None:
    assert csv.scan(text).dtype == name


def test_types_only_widen() -> None:
    assert csv.scan(b"1\n", 1, "float64") == (1, "float64")
    assert csv.scan(b"1\n", 1, "complex128") == (1, "complex128")
    assert csv.scan(b"True\n", 1, "int64") == (1, "int64")
    assert csv.widest([]) == "bool"
    assert csv.widest(["int64", "float64"]) == "float64"


def test_a_settled_type_is_not_looked_for() -> None:
    assert csv.scan(b"1,x\n2,y\n", 0, "float32", is_typed=True) == (2, "float32")
    with pytest.raises(csv.CsvError, match="has 1 field where the lines before have 2"):
        csv.scan(b"1,x\n2\n", 0, "float32", is_typed=True)


def test_bool_is_read_from_words_and_numbers() -> None:
    expected = np.array([[True, False]])
    for text in (b"True,False\n", b"true,FALSE\n", b"1,0\n", b"1.000e+00,0.000e+00\n", b"True,0.0\n"):
        assert same_bits(csv.parse(text, 2, np.dtype(bool)), expected)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize(
    ("text", "dtype", "offset", "column", "problem"),
    [
        (b"1,2\n3,x\n", F8, 4, 2, "'x' is not a number"),
        (b"1,2\n\n3,x\n", F8, 5, 2, "'x' is not a number"),
        (b"a,b\n1,2\n", F8, 0, 1, "'a' is not a number"),
        (b"1,2\n3,4,5\n", F8, 4, 0, "has 3 fields where the lines before have 2"),
        (b"1,2\n3\n", F8, 4, 0, "has 1 field where the lines before have 2"),
        (b"1,2\n3,4,\n", F8, 4, 0, "has 3 fields (it ends in a comma) where the lines before have 2"),
        (b"1,2\n3,\n", F8, 4, 2, "the field is empty; remove the comma at the end of the line, or fill it in"),
        (b"1,2\n,4\n", F8, 4, 1, "the field is empty; fill it in"),
        (b"1,2\n3, \n", F8, 4, 2, "the field is empty; remove the comma at the end of the line, or fill it in"),
        (b"1,2\n3,4 5\n", F8, 4, 2, "'4 5' is not a number; fields must be separated by commas"),
        (b"1,0x1F\n", I8, 0, 2, "'0x1F' is not a number"),
        (b"1,1_000\n", I8, 0, 2, "'1_000' is not a number"),
        (b"1,1_000\n", C16, 0, 2, "'1_000' is not a number"),
        (b"1,nan(1)\n", F8, 0, 2, "'nan(1)' is not a number"),
        (b'1,1"2"3\n', F8, 0, 2, "'1\"2\"3' is not a number"),
        (b"1,++2\n", F8, 0, 2, "'++2' is not a number"),
        (b"1,+-2\n", I8, 0, 2, "'+-2' is not a number"),
        ("1,٣\n".encode(), F8, 0, 2, "'٣' is not a number"),
        (b"1,\xff\n", F8, 0, 2, "'\ufffd' is not a number"),
        (b"1,True\n", F8, 0, 2, "'True' is not a number"),
        (b"1,2.5\n", I8, 0, 2, "'2.5' is not an integer; choose float64 instead of int64"),
        (b"1,300\n", np.dtype("int8"), 0, 2, "'300' is outside the range of int8, -128 to 127; choose a wider type"),
        (b"1,-1\n", np.dtype("uint8"), 0, 2, "'-1' is outside the range of uint8, 0 to 255; choose a wider type"),
        (b"1,1+2j\n", F8, 0, 2, "'1+2j' is a complex number; choose complex128 instead of float64"),
        (b"1," + b"y" * 50 + b"\n", F8, 0, 2, repr("y" * 37 + "...") + " is not a number"),
    ],
)
def test_mistakes_have_a_place_and_a_sentence(text: bytes, dtype: Any, offset: int, column: int, problem: str) -> None:
    with pytest.raises(csv.CsvError) as caught:
        csv.parse(text, 2, dtype)
    assert (caught.value.offset_bytes, caught.value.column, caught.value.problem) == (offset, column, problem)
    moved = caught.value.later(100)
    assert (moved.offset_bytes, moved.problem) == (offset + 100, problem)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("text", [b"1,2\n3,x\n", b"1,2\n3\n", b"1,2\n3,\n", b"True,2\n", b"1;2,3\n", b"1,2\n3,4,\n"])
def test_a_scan_finds_the_mistakes_too(text: bytes) -> None:
    with pytest.raises(csv.CsvError):
        csv.scan(text)


_FIELDS = st.one_of(
    st.floats().map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.complex_numbers().map(str),
    st.sampled_from(["", " ", "True", "false", "0x10", "1_0", "nan(1)", "+1", "-", "1e", ".5", "5.", "1e999", '"1"', '"', "ï"]),
    st.text("0123456789+-.eEjJ() \t\"'_xXnaifNAIF", max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(_FIELDS, min_size=2, max_size=2), min_size=1, max_size=4), st.sampled_from(SUPPORTED))
def test_the_fast_way_and_the_grammar_agree(rows: list[list[str]], name: str) -> None:
    """What Arrow casts at once is what the strict reader, field by field, says it is."""
    text = "".join(",".join(row) + "\n" for row in rows).encode()
    dtype = np.dtype(name)
    try:
        with np.errstate(over="ignore"):
            slow = np.array(csv._read_slowly(text, 0, 2, dtype), dtype).reshape(-1, 2)
    except csv.CsvError as error:
        with pytest.raises(csv.CsvError) as caught:
            csv.parse(text, 2, dtype)
        assert (caught.value.offset_bytes, caught.value.column) == (error.offset_bytes, error.column)
    else:
        if name not in ("float32", "complex64"):  # where Python rounds twice
            assert same_bits(csv.parse(text, 2, dtype), slow)


F, FLOATS = b"1.5,2.5\n", b"1.5,2.5\n" * 100


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (FLOATS, (2, "float64")),
        (b"1,2\n" * 100 + F, (2, "float64")),
        (FLOATS + b"1,2\n", (2, "float64")),
        (FLOATS + b"1,99999999999999999999\n", (2, "float64")),
        (FLOATS + b"1,1+2j\n", (2, "complex128")),
        (FLOATS + b"1,(2)\n", (2, "complex128")),
        (FLOATS + b"\n\n", (2, "float64")),
        (b"\n\n" + FLOATS.replace(b"\n", b"\r\n"), (2, "float64")),
        (FLOATS + b"1.5,2.5", (2, "float64")),
        (b"True,False\n" * 100, (2, "bool")),
        (b"1,2\n" * 100 + b"3,99999999999999999999\n", (2, "float64")),
        (b"\n", (0, "bool")),
    ],
)
def test_a_survey_finds_what_a_scan_does(text: bytes, found: tuple[int, str]) -> None:
    starts = csv.row_starts(text)
    assert csv.survey(text, starts, 0, "bool") == csv.scan(text) == found
    for dtype in ("int64", "float64", "complex128"):
        assert csv.survey(text, starts, 2, dtype) == csv.scan(text, 2, dtype)
        assert csv.survey(text, starts, 0, dtype, is_typed=True) == csv.scan(text, 0, dtype, is_typed=True)


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("last", [b"3.5,x\n", b"3.5\n", b"3.5,4,5\n", b"3.5,\n", b"True,1\n", b"1,0x1F\n", b"1 2\n"])
def test_what_a_survey_leaves_is_found_by_the_parse(last: bytes) -> None:
    for text in (FLOATS + last, FLOATS + last + FLOATS, FLOATS + b"\n" + last):
        with pytest.raises(csv.CsvError) as strict:
            csv._read_slowly(text, 0, 2, F8)
        with pytest.raises(csv.CsvError) as parsed:
            csv.survey(text, csv.row_starts(text), 0, "bool")
            csv.parse_into(text, np.empty((300, 2)))
        places = [(error.offset_bytes, error.column, error.problem) for error in (strict.value, parsed.value)]
        assert places[0] == places[1]


def test_text_is_cast_in_place_only_where_nothing_is_to_be_cleaned() -> None:
    for text in (b"1.5,2\n", b"nan,-inf\n3,4e-5\n"):
        assert csv._cast_in_place(text, 0, len(text), 2, F8) is not None
    for text in (
        b"1 2\n",
        b"1;2\n",
        b"1,2",
        b"1,2\r\n",
        b"1,2\n\n",
        b"1\n2,3,4\n",
        b"1\n2\n",
        b'"1",2\n',
        b"1,\n",
        b"+1,2\n",
        b"(1),2\n",
    ):
        assert csv._cast_in_place(text, 0, len(text), 2, F8) is None
