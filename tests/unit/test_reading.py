"""Reading any rectangle of any stored matrix equals NumPy's slice of it; damage is found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import google_crc32c
import msgspec
import numpy as np
import pytest
import zarr
import zarr.storage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore
from zarr import codecs

from tests.conftest import Server
from tilefleet import reading
from tilefleet.config import StoreSection
from tilefleet.dtypes import SUPPORTED
from tilefleet.errors import BadInput, NotFound, Unreachable
from tilefleet.inspection import inspect
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.reading import Reader
from tilefleet.store import Stores, file_url
from tilefleet.writing import publish_zarr, write_tiles

RNG = np.random.default_rng(0)
A = RNG.standard_normal((50, 70))
WHOLE = Rect(0, 50, 0, 70)
RECTS = [
    WHOLE,
    Rect(0, 16, 16, 32),
    Rect(3, 41, 5, 69),
    Rect(49, 50, 0, 70),
    Rect(0, 50, 69, 70),
    Rect(7, 8, 9, 10),
    Rect(5, 5, 0, 9),
]
CODECS: list[dict[str, Any]] = [
    {"compressors": codecs.ZstdCodec()},
    {"compressors": codecs.GzipCodec()},
    {"compressors": codecs.BloscCodec()},
    {"shards": (32, 48)},
    {"serializer": codecs.BytesCodec(endian="big"), "compressors": None},
    {"chunk_key_encoding": {"name": "default", "separator": "."}, "compressors": None},
    {"zarr_format": 2},
    {"zarr_format": 2, "order": "F"},
    {"zarr_format": 2, "dtype": ">f8"},
]


@pytest.fixture
def bucket() -> Stores:
    """An object store that is no directory."""
    stores = Stores(StoreSection())
    stores._buckets["bucket"] = MemoryStore()
    return stores


async def ours(stores: Stores, place: Path | str, array: np.ndarray = A, tile: tuple[int, int] = (16, 16)) -> MatrixRef:
    url = place if isinstance(place, str) else file_url(place)
    ref = MatrixRef(url=url, format="zarr", shape=array.shape, dtype=array.dtype.name, tile=tile, is_ours=True)
    await write_tiles(stores.open(ref.url), ref, Rect(0, array.shape[0], 0, array.shape[1]), array)
    await publish_zarr(stores.open(ref.url), ref, "op")
    return ref


def foreign(path: Path, array: np.ndarray = A, **options: Any) -> None:
    arguments: dict[str, Any] = {"shape": array.shape, "dtype": array.dtype, "chunks": (16, 16)} | options
    zarr.create_array(path, **arguments)[...] = array


async def check(stores: Stores, ref: MatrixRef, array: np.ndarray = A) -> None:
    """All ways to read every rectangle."""
    reader = Reader(stores, concurrency=3)
    for rect in RECTS:
        expected = array[rect.row0 : rect.row1, rect.col0 : rect.col1]
        block = await reader.read(ref, rect)
        assert block.dtype == np.dtype(array.dtype).newbyteorder("<")
        assert block.flags.c_contiguous
        assert np.array_equal(block, expected)
        for order in "CF":
            out = np.ones((rect.rows + 2, rect.cols + 2), block.dtype, order=order)  # type: ignore[call-overload]
            assert (await reader.read(ref, rect, out=out[1:-1, 1:-1])).base is not None
            assert np.array_equal(out[1:-1, 1:-1], expected)
            assert (out[0] == 1).all()


@pytest.mark.parametrize("name", SUPPORTED)
async def test_ours_in_every_type(stores: Stores, tmp_path: Path, name: str) -> None:
    array = (A * 100).astype(name) if name != "bool" else A > 0
    if name.startswith("uint"):
        array = np.abs(A * 100).astype(name)
    ref = await ours(stores, tmp_path / "a b#%.zarr", array)
    assert await inspect(stores, str(tmp_path / "a b#%.zarr")) == msgspec.structs.replace(
        ref, fill_value=(await inspect(stores, ref.url)).fill_value
    )
    await check(stores, ref, array)


@pytest.mark.parametrize("compressors", [None, codecs.Crc32cCodec()])
async def test_plain_foreign_arrays(stores: Stores, tmp_path: Path, compressors: Any) -> None:
    foreign(tmp_path / "m.zarr", compressors=compressors)
    ref = await inspect(stores, str(tmp_path / "m.zarr"))
    assert ref.layout == ("raw" if compressors is None else "raw+crc32c")
    await check(stores, ref)


@pytest.mark.parametrize("options", CODECS)
async def test_foreign_arrays_through_zarr_python(stores: Stores, tmp_path: Path, options: dict[str, Any]) -> None:
    foreign(tmp_path / "ä m#%.zarr", **options)
    ref = await inspect(stores, str(tmp_path / "ä m#%.zarr"))
    assert ref.layout == "codec"
    await check(stores, ref)


@pytest.mark.parametrize("compressors", [None, codecs.Crc32cCodec(), codecs.ZstdCodec()])
@pytest.mark.parametrize("fill", [0.0, 2.5, math.nan])
async def test_missing_chunks_of_foreign_arrays_are_their_fill_value(
    stores: Stores, tmp_path: Path, compressors: Any, fill: float
) -> None:
    array = np.full((50, 70), fill)
    array[20:30, 20:30] = 7
    foreign(tmp_path / "m.zarr", array, compressors=compressors, fill_value=fill)
    assert len(list((tmp_path / "m.zarr" / "c").rglob("*"))) < 8
    ref = await inspect(stores, str(tmp_path / "m.zarr"))
    for rect in RECTS:
        found = await Reader(stores).read(ref, rect)
        assert np.array_equal(found, array[rect.row0 : rect.row1, rect.col0 : rect.col1], equal_nan=True)


async def test_a_missing_tile_of_ours_is_an_error(stores: Stores, tmp_path: Path) -> None:
    ref = await ours(stores, tmp_path / "m.zarr")
    (tmp_path / "m.zarr" / "c" / "1" / "2").unlink()
    for rect in (WHOLE, Rect(16, 32, 32, 48), Rect(17, 18, 33, 34)):
        with pytest.raises(NotFound, match=f"the tile {tmp_path}/m.zarr/c/1/2 is missing"):
            await Reader(stores).read(ref, rect)
    await Reader(stores).read(ref, Rect(0, 16, 0, 70))


@pytest.mark.parametrize("is_foreign", [False, True])
@pytest.mark.parametrize("damage", ["flip", "crc", "cut", "longer", "empty"])
async def test_damaged_tiles_are_named(stores: Stores, tmp_path: Path, damage: str, *, is_foreign: bool) -> None:
    if is_foreign:
        foreign(tmp_path / "m.zarr", compressors=codecs.Crc32cCodec())
    else:
        await ours(stores, tmp_path / "m.zarr")
    ref = await inspect(stores, str(tmp_path / "m.zarr"))
    path = tmp_path / "m.zarr" / "c" / "1" / "2"
    data = bytearray(path.read_bytes())
    data[100 if damage == "flip" else -1] ^= damage in ("flip", "crc")
    path.write_bytes({"cut": bytes(data[:-1]), "longer": bytes(data) + b"x", "empty": b""}.get(damage, bytes(data)))
    for rect in (WHOLE, Rect(16, 32, 32, 48), Rect(17, 18, 33, 34)):
        with pytest.raises(BadInput, match=f"the tile {path} is damaged"):
            await Reader(stores).read(ref, rect)


async def test_a_short_tile_without_checksum_is_named(stores: Stores, tmp_path: Path) -> None:
    foreign(tmp_path / "m.zarr", compressors=None)
    ref = await inspect(stores, str(tmp_path / "m.zarr"))
    path = tmp_path / "m.zarr" / "c" / "1" / "2"
    path.write_bytes(path.read_bytes()[:300])
    for rect in (WHOLE, Rect(17, 20, 33, 34), Rect(20, 21, 33, 34)):
        with pytest.raises(BadInput, match=f"{path} is damaged: it has 300 bytes where there must be 2048"):
            await Reader(stores).read(ref, rect)


async def test_a_short_object_without_checksum_is_named(bucket: Stores) -> None:
    ref = MatrixRef("s3://bucket/m.zarr", "zarr", A.shape, "float64", (16, 16), layout="raw")
    await bucket.open(ref.url).put("c/1/2", bytes(300))
    for rect in (Rect(16, 32, 32, 48), Rect(17, 20, 33, 34)):
        with pytest.raises(BadInput, match=f"{ref.url}/c/1/2 is damaged: it has 300 bytes where there must be 2048"):
            await Reader(bucket).read(ref, rect)
    with pytest.raises(BadInput, match="truncated"):
        await Reader(bucket).read(ref, Rect(20, 21, 33, 34))


@pytest.mark.parametrize("compressor", [codecs.ZstdCodec(), codecs.GzipCodec(), codecs.BloscCodec()])
async def test_damaged_codec_chunks_are_no_result(stores: Stores, tmp_path: Path, compressor: Any) -> None:
    foreign(tmp_path / "m.zarr", compressors=compressor)
    (tmp_path / "m.zarr" / "c" / "0" / "0").write_bytes(b"nonsense")
    ref = await inspect(stores, str(tmp_path / "m.zarr"))
    with pytest.raises(BadInput, match=f"{tmp_path}/m.zarr cannot be decoded by zarr-python"):
        await Reader(stores).read(ref, WHOLE)


async def test_an_array_written_anew_after_it_could_not_be_decoded(stores: Stores, tmp_path: Path) -> None:
    reader = Reader(stores)
    foreign(tmp_path / "m.zarr", compressors=codecs.ZstdCodec())
    ref = await inspect(stores, str(tmp_path / "m.zarr"))
    assert np.array_equal(await reader.read(ref, WHOLE), A)
    foreign(tmp_path / "m.zarr", A + 1, compressors=codecs.GzipCodec(), overwrite=True)
    with pytest.raises(BadInput, match="cannot be decoded"):
        await reader.read(ref, WHOLE)
    assert np.array_equal(await reader.read(ref, WHOLE), A + 1)


async def test_few_foreign_arrays_are_held_open(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = reading._open_array

    def open_array(stores: Stores, ref: MatrixRef) -> Any:
        opened.append(ref.url)
        return original(stores, ref)

    monkeypatch.setattr(reading, "_open_array", open_array)
    monkeypatch.setattr(reading, "HANDLES", 2)
    refs = []
    for name in "abc":
        foreign(tmp_path / f"{name}.zarr", compressors=codecs.ZstdCodec())
        refs.append(await inspect(stores, str(tmp_path / f"{name}.zarr")))
    reader = Reader(stores)
    for index in (0, 1, 0, 2, 0, 1):  # b is the one used least recently when c comes
        await reader.read(refs[index], Rect(0, 3, 0, 3))
    assert [url[-6:] for url in opened] == ["a.zarr", "b.zarr", "c.zarr", "b.zarr"]


async def test_a_disk_that_fails_is_not_taken_for_damage(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    foreign(tmp_path / "m.zarr", compressors=codecs.ZstdCodec())
    ref = await inspect(stores, str(tmp_path / "m.zarr"))
    monkeypatch.setattr(reading, "_open_array", fail)
    with pytest.raises(Unreachable, match=f"{tmp_path}/m.zarr"):
        await Reader(stores).read(ref, WHOLE)


async def test_a_whole_tile_of_an_object_store_is_not_copied(bucket: Stores) -> None:
    ref = await ours(bucket, "s3://bucket/m.zarr", tile=(16, 70))
    for rect in (Rect(16, 32, 0, 70), Rect(48, 50, 0, 70)):  # the second is at the edge, stored in full
        block = await Reader(bucket).read(ref, rect)
        assert not block.flags.owndata
        assert not block.flags.writeable
        assert np.array_equal(block, A[rect.row0 : rect.row1])


async def test_rows_of_an_object_without_checksum_are_fetched_alone(bucket: Stores) -> None:
    ref = MatrixRef("s3://bucket/m.zarr", "zarr", A.shape, "float64", (16, 16), layout="raw")
    await bucket.open(ref.url).put("c/0/0", A[:5, :16].tobytes())  # what is beyond is not looked at
    assert np.array_equal(await Reader(bucket).read(ref, Rect(2, 5, 1, 9)), A[2:5, 1:9])


@pytest.mark.parametrize("tile", [(16, 16), (50, 70), (64, 128), (7, 70), (1, 1)])
@pytest.mark.parametrize("rect", RECTS)
async def test_the_same_from_an_object_store(bucket: Stores, tile: tuple[int, int], rect: Rect) -> None:
    ref = await ours(bucket, "s3://bucket/m.zarr", tile=tile)
    assert np.array_equal(await Reader(bucket).read(ref, rect), A[rect.row0 : rect.row1, rect.col0 : rect.col1])
    wide = np.zeros((rect.rows, 2 * rect.cols))
    out = wide[:, : rect.cols] if rect.rows % 2 else wide[:, ::2]
    assert await Reader(bucket).read(ref, rect, out=out) is out
    assert np.array_equal(out, A[rect.row0 : rect.row1, rect.col0 : rect.col1])


NPY = [("C", "<f8"), ("F", "<f8"), ("C", ">f8"), ("F", ">i4"), ("C", "|i1"), ("F", "<c16")]


@pytest.mark.parametrize("limits", [(2**23, 2**20), (600, 2**20), (600, 0), (1, 0)])
@pytest.mark.parametrize(("order", "dtype"), NPY)
async def test_npy_files(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any, dtype: str, limits: tuple[int, int]
) -> None:
    monkeypatch.setattr(reading, "FETCH_BYTES", limits[0])
    monkeypatch.setattr(reading, "_GAP_BYTES", limits[1])
    array = np.asarray((A * 50).astype(dtype), order=order)
    np.save(tmp_path / "a é#%.npy", array)
    await check(stores, await inspect(stores, str(tmp_path / "a é#%.npy")), array)


async def test_npy_fetches_are_bounded() -> None:
    fetches = list(reading._npy_fetches(Rect(0, 10_000, 0, 10_000), 10_000, 8, 128))
    assert all(fetch.ends[0] - fetch.starts[0] <= reading.FETCH_BYTES for fetch in fetches)
    assert sum(fetch.ends[0] - fetch.starts[0] for fetch in fetches) == 8 * 10**8
    part = list(reading._npy_fetches(Rect(0, 1000, 0, 100), 10_000, 8, 128))
    assert all(fetch.ends[-1] - fetch.starts[0] <= reading.FETCH_BYTES for fetch in part)  # obstore reads the gaps too


async def test_an_npy_file_that_shrank(stores: Stores, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    ref = await inspect(stores, str(tmp_path / "a.npy"))
    np.save(tmp_path / "a.npy", A[:20])
    for rect in (WHOLE, Rect(0, 50, 3, 5), Rect(40, 50, 0, 70)):
        with pytest.raises(BadInput, match=r"a\.npy .*truncated or changed"):
            await Reader(stores).read(ref, rect)


async def test_what_is_not_readable_in_parts(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,2\n")
    with pytest.raises(BadInput, match=r"a.csv is text; convert it to .zarr or .npy"):
        await Reader(stores).read(await inspect(stores, str(tmp_path / "a.csv")), Rect(0, 1, 0, 1))
    ref = await ours(stores, tmp_path / "m.zarr")
    with pytest.raises(ValueError, match="is not inside the shape"):
        await Reader(stores).read(ref, Rect(0, 51, 0, 1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_any_rectangle_of_any_grid(stores: Stores, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    rows, cols, tm, tn = (data.draw(st.integers(1, 9)) for _ in range(4))
    array = RNG.integers(-9, 9, (rows, cols))
    ref = await ours(stores, tmp_path_factory.mktemp("m") / "m.zarr", array, (tm, tn))
    row0, row1 = sorted(data.draw(st.tuples(st.integers(0, rows), st.integers(0, rows))))
    col0, col1 = sorted(data.draw(st.tuples(st.integers(0, cols), st.integers(0, cols))))
    assert np.array_equal(await Reader(stores).read(ref, Rect(row0, row1, col0, col1)), array[row0:row1, col0:col1])


async def test_large_tiles_are_checked_in_threads(stores: Stores, tmp_path: Path) -> None:
    array = RNG.standard_normal((600, 700))
    ref = await ours(stores, tmp_path / "m.zarr", array, (512, 512))
    assert np.array_equal(await Reader(stores).read(ref, Rect(0, 600, 0, 700)), array)
    path = tmp_path / "m.zarr" / "c" / "0" / "0"
    body = path.read_bytes()
    assert google_crc32c.value(body[:-4]) == int.from_bytes(body[-4:], "little")


async def test_foreign_and_our_arrays_in_s3(moto_server: Server) -> None:
    import boto3
    from botocore.config import Config

    bucket = moto_server.new_bucket()
    stores = Stores(StoreSection(endpoint_url=moto_server.endpoint_url))
    ref = MatrixRef(
        url=f"s3://{bucket}/a b/ours.zarr", format="zarr", shape=(50, 70), dtype="float64", tile=(16, 32), is_ours=True
    )
    await write_tiles(stores.open(ref.url), ref, WHOLE, A)
    await publish_zarr(stores.open(ref.url), ref, "op")
    foreign_store = zarr.storage.ObjectStore(stores.open(f"s3://{bucket}").backend)
    zarr.create_array(foreign_store, name="x/theirs.zarr", data=A, chunks=(16, 16))
    zarr.create_array(foreign_store, name="top.zarr", data=A, chunks=(16, 16), zarr_format=2)
    client = boto3.client(
        "s3", endpoint_url=moto_server.endpoint_url, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
    )
    client.put_object(Bucket=bucket, Key="a b/m.npy", Body=_npy_bytes(A))
    for key in ("a b/ours.zarr", "x/theirs.zarr", "top.zarr", "a b/m.npy"):
        found = await inspect(stores, f"s3://{bucket}/{key}")
        assert found.shape == (50, 70)
        for rect in (WHOLE, Rect(3, 41, 5, 69)):
            assert np.array_equal(await Reader(stores).read(found, rect), A[rect.row0 : rect.row1, rect.col0 : rect.col1])
    assert np.array_equal(np.asarray(zarr.open_array(foreign_store, path="a b/ours.zarr", mode="r")[...]), A)
    for key in ("none.npy", "none.zarr", "x/none"):
        with pytest.raises(NotFound, match=f"there is no s3://{bucket}/{key}"):
            await inspect(stores, f"s3://{bucket}/{key}")
    with pytest.raises(BadInput, match="of no known format"):
        await inspect(stores, f"s3://{bucket}/a b")
    with pytest.raises(NotFound, match="bucket"):
        await inspect(stores, f"s3://{bucket}-not/a.zarr")


def _npy_bytes(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
