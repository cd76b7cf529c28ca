"""CSV in parallel byte ranges: every row once whatever the cuts, places of mistakes in the file, gzip in bounded memory."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilefleet.errors import BadInput, NotFound
from tilefleet.facts import CsvFacts
from tilefleet.formats import csv, csv_reading
from tilefleet.formats.csv_index import CsvIndex, combine, n_pieces
from tilefleet.formats.csv_reading import gunzip, parse_csv, scan_csv, whole_lines
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.messages import ParseCsv, ScanCsv
from tilefleet.store import Store

SHARED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ref_of(store: Store, key: str, text: bytes) -> MatrixRef:
    return MatrixRef(url=store.url_of(key), format="csv", size_bytes=len(text))


async def put(store: Store, text: bytes) -> MatrixRef:
    await store.put("a b%.csv", text)
    return ref_of(store, "a b%.csv", text)


async def scan_all(store: Store, ref: MatrixRef, range_bytes: int, piece_bytes: int) -> tuple[list[CsvFacts], CsvIndex]:
    ranges = [(start, min(start + range_bytes, ref.size_bytes)) for start in range(0, ref.size_bytes, range_bytes)]
    works = [ScanCsv(ref, byte0, byte1, piece_bytes, "file:///facts") for byte0, byte1 in ranges]
    facts = [await scan_csv(store, "a b%.csv", work) for work in works]
    return facts, CsvIndex(facts, ranges, piece_bytes)


def parse_work(ref: MatrixRef, index: CsvIndex, row0: int, row1: int, cols: int, dtype: str) -> ParseCsv:
    band = index.band(row0, row1)
    out = MatrixRef(url="file:///out", format="zarr", shape=(index.rows, cols), dtype=dtype, tile=(1, 1))
    return ParseCsv(ref, out, Rect(row0, row1, 0, cols), band.byte0, band.byte1, band.skip_rows)


@pytest.mark.parametrize("read_bytes", [1, 7, 2**22])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("is_ended", [True, False])
async def test_every_row_is_read_once_whatever_the_cuts(
    directory_store: Store, monkeypatch: pytest.MonkeyPatch, read_bytes: int, ending: bytes, is_ended: bool
) -> None:
    monkeypatch.setattr(csv_reading, "READ_BYTES", read_bytes)
    block = np.arange(33, dtype="int64").reshape(11, 3) ** 5
    text = csv.encode(block).replace(b"\n", ending)
    ref = await put(directory_store, text if is_ended else text.rstrip(b"\r\n"))
    for range_bytes, piece_bytes in ((1000, 1000), (30, 10), (13, 5), (3, 1), (1, 1)):
        facts, index = await scan_all(directory_store, ref, range_bytes, piece_bytes)
        assert combine(facts, "a.csv") == ((11, 3), "int64")
        for row0, row1 in ((0, 11), (0, 1), (10, 11), (3, 8)):
            work = parse_work(ref, index, row0, row1, 3, "float32")
            found = await parse_csv(directory_store, "a b%.csv", work)
            assert found.dtype == "float32"
            assert (found == block[row0:row1].astype("float32")).all()


@SHARED
@given(
    st.lists(st.sampled_from([b"1,2", b"", b"123456789,2", b" ", b"3,4\r"]), max_size=12), st.integers(1, 40), st.integers(1, 12)
)
async def test_cuts_never_lose_or_repeat_a_line(directory_store: Store, lines: list[bytes], size: int, piece: int) -> None:
    text = b"\n".join(lines)
    if not text:
        return
    ref = await put(directory_store, text)
    facts, index = await scan_all(directory_store, ref, size, piece)
    n_rows = sum(1 for line in lines if line.strip())
    assert index.rows == sum(sum(fact.rows) for fact in facts) == n_rows
    joined = b""
    for start in range(0, len(text), size):
        async for offset, lines_text in whole_lines(directory_store, "a b%.csv", start, min(start + size, len(text)), len(text)):
            assert offset == len(joined)
            joined += lines_text
    assert joined == text


async def test_a_line_longer_than_its_range(directory_store: Store) -> None:
    text = b"1," * 500 + b"1\n2" + b",2" * 500 + b"\n"
    ref = await put(directory_store, text)
    facts, index = await scan_all(directory_store, ref, 100, 50)
    assert [sum(fact.rows) for fact in facts] == [1, *[0] * 9, 1, *[0] * 10]
    assert {(fact.cols, fact.dtype) for fact in facts if not sum(fact.rows)} == {(0, "bool")}
    found = await parse_csv(directory_store, "a b%.csv", parse_work(ref, index, 1, 2, 501, "int64"))
    assert (found == 2).all()


async def test_a_settled_type_is_kept(directory_store: Store) -> None:
    ref = await put(directory_store, b"1\n2.5\n")
    facts = await scan_csv(directory_store, "a b%.csv", ScanCsv(ref, 0, 6, 6, "file:///facts", dtype="complex64"))
    assert facts == CsvFacts(rows=(2,), cols=1, dtype="complex64")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"1,2\n" * 50 + b"3,x\n", "line 51, column 2: 'x' is not a number$"),
        (b"1,2\r\n\r\n" * 50 + b"3,x\r\n", "line 101, column 2: 'x' is not a number$"),
        (b"a,b\n" + b"1,2\n" * 50, "line 1, column 1: 'a' is not a number; tilefleet reads CSV without a header line$"),
        (b"1,2\n" * 50 + b"3,,\n", "line 51: has 3 fields"),
        (b"1,2\n" * 50 + b"3,\n", "line 51, column 2: the field is empty"),
    ],
)
async def test_mistakes_are_placed_in_the_file(directory_store: Store, text: bytes, sentence: str) -> None:
    ref = await put(directory_store, text)
    with pytest.raises(BadInput, match=r"a b%\.csv, " + sentence):
        await scan_all(directory_store, ref, 1000, 10)


@pytest.mark.parametrize("range_bytes", [10_000, 133, 40])
@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (b"3.5,x\n", "line 101, column 2: 'x' is not a number$"),
        (b"3.5,4,5\n", "(line|row) 101: has 3 fields where the (line|row)s before have 2$"),
        (b"3.5\n\n", "(line|row) 101: has 1 fields? where the (line|row)s before have 2$"),
        (b"3.5,", "line 101, column 2: the field is empty; remove the comma"),
    ],
)
async def test_mistakes_deep_in_floats_are_placed(directory_store: Store, range_bytes: int, last: bytes, sentence: str) -> None:
    """The scan may leave them to the parse; they are found all the same, where they are."""
    ref = await put(directory_store, b"1.5,2.5\n" * 100 + last)
    with pytest.raises(BadInput, match=r"a b%\.csv, " + sentence):
        facts, index = await scan_all(directory_store, ref, range_bytes, 20)
        (_, cols), dtype = combine(facts, "a b%.csv")
        await parse_csv(directory_store, "a b%.csv", parse_work(ref, index, 0, 101, cols, dtype))


async def test_parsing_places_what_does_not_fit_the_type(directory_store: Store) -> None:
    ref = await put(directory_store, b"1,2\n" * 50 + b"3,300\n")
    _, index = await scan_all(directory_store, ref, 1000, 20)
    work = parse_work(ref, index, 40, 51, 2, "uint8")
    with pytest.raises(BadInput, match="line 51, column 2: '300' is outside the range of uint8, 0 to 255"):
        await parse_csv(directory_store, "a b%.csv", work)


async def test_a_file_that_shrank_is_no_result(directory_store: Store) -> None:
    ref = await put(directory_store, b"1\n2\n3\n")
    _, index = await scan_all(directory_store, ref, 6, 6)
    work = parse_work(ref, index, 0, 3, 1, "int64")
    for text in (b"1\n2\n", b"1\n2\n\n\n"):
        await directory_store.put("a b%.csv", text)
        with pytest.raises(BadInput, match="truncated"):
            await parse_csv(directory_store, "a b%.csv", work)


async def test_a_line_without_end_is_no_csv(directory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reading, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(csv_reading, "READ_BYTES", 10)
    ref = await put(directory_store, b"1\n" + b"1," * 1000)
    with pytest.raises(BadInput, match="it is no CSV of numbers"):
        await scan_all(directory_store, ref, 10_000, 10_000)


def test_scans_that_disagree_are_refused() -> None:
    facts = [CsvFacts((2, 1), 3, "int64"), CsvFacts((0,), 0, "bool"), CsvFacts((1,), 4, "int64")]
    with pytest.raises(BadInput, match=r"^a.csv, row 4: has 4 fields where the rows before have 3$"):
        combine(facts, "a.csv")
    with pytest.raises(BadInput, match=r"^a.csv holds no numbers"):
        combine([CsvFacts((0,), 0, "bool")], "a.csv")
    assert combine([CsvFacts((2,), 3, "int64"), CsvFacts((1,), 3, "float64")], "a.csv") == ((3, 3), "float64")


def test_an_index_refuses_what_it_does_not_have() -> None:
    index = CsvIndex([CsvFacts((2, 1), 1, "int64")], [(0, 15)], 10)
    assert n_pieces(0, 15, 10) == 2
    assert index.band(2, 3) == (10, 15, 0)
    assert index.band(1, 3) == (0, 15, 1)
    for rows in ((0, 4), (1, 1), (-1, 2)):
        with pytest.raises(ValueError, match="no rows"):
            index.band(*rows)
    with pytest.raises(ValueError, match="counts for"):
        CsvIndex([CsvFacts((2,), 1, "int64")], [(0, 15)], 10)


@pytest.mark.parametrize("read_bytes", [5, 2**22])
async def test_gzip_streams_unpack(directory_store: Store, monkeypatch: pytest.MonkeyPatch, read_bytes: int) -> None:
    monkeypatch.setattr(csv_reading, "READ_BYTES", read_bytes)
    monkeypatch.setattr(csv_reading, "_PIECE_BYTES", 16)
    text = b"1,2\n" * 100
    for packed, expected in (
        (gzip.compress(text), text),
        (gzip.compress(text) + gzip.compress(b"5,6\n"), text + b"5,6\n"),
        (gzip.compress(text) + b"\0" * 20, text),
        (gzip.compress(b""), b""),
    ):
        await directory_store.put("in.gz", packed)
        assert await gunzip(directory_store, "in.gz", directory_store, "out.csv") == len(expected)
        assert bytes(await directory_store.get("out.csv")) == expected


async def test_unpacking_holds_only_pieces(directory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_reading, "_PIECE_BYTES", 1000)
    await directory_store.put("bomb.gz", gzip.compress(bytes(10**6)))
    sizes = [len(piece) async for piece in csv_reading.unpacked(directory_store, "bomb.gz")]
    assert max(sizes) <= 1000
    assert sum(sizes) == 10**6


@pytest.mark.parametrize("read_bytes", [5, 2**22])
async def test_damaged_gzip_leaves_nothing(
    directory_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    monkeypatch.setattr(csv_reading, "READ_BYTES", read_bytes)
    whole = gzip.compress(b"1,2\n" * 1000)
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # its checksum
    cases = (
        (whole[:-3], "truncated"),
        (whole[:15], "truncated"),
        (bytes(flipped), "not a sound gzip"),
        (b"1,2\n", "not a sound gzip"),
    )
    for packed, sentence in cases:
        await directory_store.put("in.gz", packed)
        with pytest.raises(BadInput, match=sentence):
            await gunzip(directory_store, "in.gz", directory_store, "out.csv")
        assert [path.name for path in (tmp_path / "store").iterdir()] == ["in.gz"]


async def test_unpacking_what_is_not_there(directory_store: Store) -> None:
    with pytest.raises(NotFound):
        await gunzip(directory_store, "in.gz", directory_store, "out.csv")
