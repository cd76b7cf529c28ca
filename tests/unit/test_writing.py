"""Results appear whole or not at all, and every step may be repeated."""

from __future__ import annotations

import asyncio
import filecmp
import gzip
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dask.array
import numpy as np
import pytest
import zarr

from tests.conftest import Server
from tilefleet import writing
from tilefleet.config import StoreSection
from tilefleet.errors import AlreadyExists, BadInput, Cancelled, NotFound, Unreachable
from tilefleet.formats import npy
from tilefleet.layout import indexed
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.reading import decode_tile
from tilefleet.store import Store, Stores, file_url
from tilefleet.writing import (
    encode_band,
    encode_tile,
    join_parts,
    publish_directory,
    publish_zarr,
    restore_replaced,
    write_tiles,
)

A = np.random.default_rng(0).standard_normal((50, 70))
PARTS = [b"1,2\n" * 10, b"", b"3,4\n" * 7]
JOINED = b"head\n" + b"".join(PARTS)


def ref_at(path: Path, tile: tuple[int, int] = (16, 32), dtype: str = "float64") -> MatrixRef:
    return MatrixRef(url=file_url(path), format="zarr", shape=(50, 70), dtype=dtype, tile=tile, is_ours=True)


async def put_parts(store: Store) -> str:
    for index, part in enumerate(PARTS):
        await store.put(indexed("parts", index), part)
    return store.url_of("parts")


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ---- tiles ----------------------------------------------------------------------------------------------------------


async def test_blocks_of_tiles_become_an_array_for_zarr_and_dask(stores: Stores, tmp_path: Path) -> None:
    ref = ref_at(tmp_path / "a b#%41.zarr")
    store = stores.open(ref.url)
    written = [await write_tiles(store, ref, rect, A[rect.row0 : rect.row1, rect.col0 : rect.col1]) for rect in
               (Rect(0, 32, 0, 64), Rect(32, 50, 0, 64), Rect(0, 50, 64, 70))]  # fmt: skip
    assert sum(written) == 4 * 3 * (16 * 32 * 8 + 4)
    await publish_zarr(store, ref, "op")
    path = tmp_path / "a b#%41.zarr"
    assert np.array_equal(np.asarray(zarr.open_array(path, mode="r")[...]), A)
    assert np.array_equal(dask.array.from_zarr(path).compute(scheduler="synchronous"), A)  # type: ignore[no-untyped-call]


async def test_what_is_written_first_stays(stores: Stores, tmp_path: Path) -> None:
    ref = ref_at(tmp_path / "m.zarr")
    store, rect = stores.open(ref.url), Rect(16, 48, 32, 70)
    block = A[16:48, 32:70]
    assert await write_tiles(store, ref, rect, block) > 0
    assert await write_tiles(store, ref, rect, block + 1) == 0
    assert np.array_equal(decode_tile(await store.get("c/1/1"), ref, "u"), A[16:32, 32:64])
    await publish_zarr(store, ref, "first")
    before = await store.get("zarr.json")
    await publish_zarr(store, ref, "first")
    with pytest.raises(AlreadyExists, match=r"m\.zarr exists already"):
        await publish_zarr(store, ref, "second")
    assert bytes(await store.get("zarr.json")) == bytes(before)


@pytest.mark.parametrize("rect", [Rect(1, 17, 0, 32), Rect(0, 16, 0, 33), Rect(0, 15, 0, 32)])
async def test_only_whole_tiles_are_written(stores: Stores, tmp_path: Path, rect: Rect) -> None:
    ref = ref_at(tmp_path / "m.zarr")
    with pytest.raises(ValueError, match="does not consist of whole tiles"):
        await write_tiles(stores.open(ref.url), ref, rect, np.zeros(rect.shape))
    assert not (tmp_path / "m.zarr").exists()


@pytest.mark.parametrize("dtype", ["float64", "int16", "complex64", "bool"])
def test_edge_tiles_are_padded_with_zeros(tmp_path: Path, dtype: str) -> None:
    ref = ref_at(tmp_path, (4, 5), dtype)
    part = np.ones((3, 2), np.dtype(dtype).newbyteorder(">"), order="F")
    tile = decode_tile(encode_tile(ref, part), ref, "u")
    assert (tile[:3, :2] == 1).all()
    assert tile.sum() == 6


async def test_large_tiles(stores: Stores, tmp_path: Path) -> None:
    array = np.random.default_rng(1).standard_normal((500, 400))
    ref = MatrixRef(url=file_url(tmp_path / "m.zarr"), format="zarr", shape=(500, 400), dtype="float64", tile=(512, 512))
    await write_tiles(stores.open(ref.url), ref, Rect(0, 500, 0, 400), array.T.copy().T)
    assert np.array_equal(decode_tile(await stores.open(ref.url).get("c/0/0"), ref, "u")[:500, :400], array)


# ---- directories ----------------------------------------------------------------------------------------------------


async def stage(stores: Stores, tmp_path: Path, operation: str = "op") -> tuple[Path, Path]:
    staged, out = tmp_path / f".m.zarr.partial-{operation}", tmp_path / "m.zarr"
    store = stores.open(file_url(staged))
    await write_tiles(store, ref_at(staged), Rect(0, 50, 0, 70), A)
    await publish_zarr(store, ref_at(staged), operation)
    return staged, out


async def test_a_directory_appears_under_its_name_and_repeating_changes_nothing(stores: Stores, tmp_path: Path) -> None:
    staged, out = await stage(stores, tmp_path)
    for _ in range(2):
        publish_directory(staged, out, "op", is_overwrite=False)
        assert names_in(tmp_path) == ["m.zarr"]
    assert np.array_equal(np.asarray(zarr.open_array(out, mode="r")[...]), A)
    await stage(stores, tmp_path)  # an attempt that comes late
    publish_directory(staged, out, "op", is_overwrite=False)
    assert names_in(tmp_path) == ["m.zarr"]


@pytest.mark.parametrize("kind", ["array", "directory", "file"])
async def test_what_is_there_is_replaced_only_when_asked(stores: Stores, tmp_path: Path, kind: str) -> None:
    staged, out = await stage(stores, tmp_path)
    if kind == "array":
        zarr.create_array(out, data=np.ones((2, 2)))
    elif kind == "directory":
        (out / "sub").mkdir(parents=True)
    else:
        out.write_bytes(b"precious")
    with pytest.raises(AlreadyExists, match=f"{out} exists already; name another place or pass --overwrite"):
        publish_directory(staged, out, "op", is_overwrite=False)
    assert staged.exists()
    publish_directory(staged, out, "op", is_overwrite=True)
    assert names_in(tmp_path) == ["m.zarr"]
    assert np.array_equal(np.asarray(zarr.open_array(out, mode="r")[...]), A)


async def test_a_crash_between_the_two_renames_is_mended(stores: Stores, tmp_path: Path) -> None:
    staged, out = await stage(stores, tmp_path)
    (tmp_path / ".m.zarr.replaced-op").mkdir()
    publish_directory(staged, out, "op", is_overwrite=True)
    assert names_in(tmp_path) == ["m.zarr"]


def test_tiles_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"the tiles of .*m\.zarr are gone"):
        publish_directory(tmp_path / ".m.zarr.partial-op", tmp_path / "m.zarr", "op", is_overwrite=False)


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "csv"])
async def test_encoded_bands_join_to_a_file(stores: Stores, directory_store: Store, tmp_path: Path, kind: str) -> None:
    for index, row in enumerate(range(0, 50, 20)):
        await directory_store.put(indexed("parts", index), encode_band(A[row : row + 20, ::2], kind))  # type: ignore[arg-type]
    header = npy.header_bytes((50, 35), A.dtype) if kind == "npy" else b""
    out = tmp_path / f"out é#%.{kind}"
    await join_parts(stores, directory_store.url_of("parts"), 3, header, file_url(out), operation="op", is_overwrite=False)
    found = np.load(out) if kind == "npy" else np.loadtxt(out, delimiter=",")
    assert np.array_equal(found, A[:, ::2])


@pytest.mark.parametrize("fetch_bytes", [3, 2**23])
@pytest.mark.parametrize("is_gzip", [True, False])
async def test_joining_twice_or_at_once_is_harmless(
    stores: Stores, directory_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fetch_bytes: int, *, is_gzip: bool
) -> None:
    monkeypatch.setattr(writing, "FETCH_BYTES", fetch_bytes)
    parts, out = await put_parts(directory_store), tmp_path / "out" / "a.csv.gz"
    out.parent.mkdir()
    (out.parent / ".a.csv.gz.partial-op-12345678").write_bytes(b"left by an attempt that was killed")

    async def join(*, is_overwrite: bool = False) -> int:
        return await join_parts(
            stores, parts, 3, b"head\n", file_url(out), operation="op", is_overwrite=is_overwrite, is_gzip=is_gzip
        )

    lengths = {await join(), *await asyncio.gather(join(), join(), join(is_overwrite=True)), await join()}
    assert lengths == {out.stat().st_size}
    assert (gzip.decompress(out.read_bytes()) if is_gzip else out.read_bytes()) == JOINED
    assert names_in(out.parent) == ["a.csv.gz"]
    assert out.stat().st_mode & 0o444


async def test_an_attempt_that_a_faster_one_sweeps_away_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a.npy"
    out.write_bytes(b"abc")
    compare = filecmp.cmp

    def swept_before(temporary: Path, other: Path, *, shallow: bool) -> bool:
        temporary.unlink()
        return compare(temporary, other, shallow=shallow)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"

    monkeypatch.setattr(filecmp, "cmp", swept_before)
    assert await writing.write_file(pieces(), out, "op", is_overwrite=False) == 3
    assert names_in(tmp_path) == ["a.npy"]


async def test_another_file_of_that_name_is_kept(stores: Stores, directory_store: Store, tmp_path: Path) -> None:
    parts, out = await put_parts(directory_store), tmp_path / "a.csv"
    out.write_bytes(b"precious")
    with pytest.raises(AlreadyExists, match=f"{out} exists already"):
        await join_parts(stores, parts, 3, b"head\n", file_url(out), operation="op", is_overwrite=False)
    assert out.read_bytes() == b"precious"
    assert names_in(tmp_path) == ["a.csv", "store"]
    await join_parts(stores, parts, 3, b"head\n", file_url(out), operation="op", is_overwrite=True)
    assert out.read_bytes() == JOINED


async def test_a_failed_join_leaves_nothing(stores: Stores, directory_store: Store, tmp_path: Path) -> None:
    parts = await put_parts(directory_store)
    with pytest.raises(NotFound, match=r"the part .*parts/00000003 is missing"):
        await join_parts(stores, parts, 4, b"", file_url(tmp_path / "a.csv"), operation="op", is_overwrite=False)
    assert names_in(tmp_path) == ["store"]
    with pytest.raises(NotFound, match=f"there is no directory {tmp_path}/none to write a.csv into; create it first"):
        await join_parts(stores, parts, 3, b"", file_url(tmp_path / "none" / "a.csv"), operation="op", is_overwrite=False)


@pytest.mark.parametrize("n_calls", range(4))
async def test_a_join_that_is_called_off_under_way_leaves_nothing(
    stores: Stores, directory_store: Store, tmp_path: Path, moto_server: Server, monkeypatch: pytest.MonkeyPatch, n_calls: int
) -> None:
    monkeypatch.setattr(writing, "FETCH_BYTES", 7)
    in_s3 = Stores(StoreSection(endpoint_url=moto_server.endpoint_url))
    bucket = in_s3.open(f"s3://{moto_server.new_bucket()}")
    for where, store, out in ((stores, directory_store, file_url(tmp_path / "a.csv")), (in_s3, bucket, bucket.url_of("a.csv"))):
        parts, calls = await put_parts(store), iter([None] * n_calls)

        def checkpoint(calls: Iterator[None] = calls) -> None:
            if next(calls, "over") == "over":
                raise Cancelled("it was cancelled")

        with pytest.raises((Cancelled, Unreachable)):  # what the store's client makes of it
            await join_parts(where, parts, 3, b"head\n", out, operation="op", is_overwrite=False, checkpoint=checkpoint)
    assert names_in(tmp_path) == ["store"]
    assert await bucket.head("a.csv") is None


async def test_joining_in_s3(moto_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FETCH_BYTES", 7)
    stores = Stores(StoreSection(endpoint_url=moto_server.endpoint_url))
    store = stores.open(f"s3://{moto_server.new_bucket()}")
    parts, out = await put_parts(store), store.url_of("x y/out.csv.gz")
    for _ in range(2):
        length = await join_parts(stores, parts, 3, b"head\n", out, operation="op", is_overwrite=False, is_gzip=True)
        data = bytes(await store.get("x y/out.csv.gz"))
        assert len(data) == length
        assert gzip.decompress(data) == JOINED
    with pytest.raises(AlreadyExists, match=r"out\.csv\.gz exists already"):
        await join_parts(stores, parts, 3, b"tail\n", out, operation="op", is_overwrite=False, is_gzip=True)
    await join_parts(stores, parts, 3, b"tail\n", out, operation="op", is_overwrite=True)
    assert bytes(await store.get("x y/out.csv.gz")).startswith(b"tail")
    with pytest.raises(NotFound, match="parts/00000003 is missing"):
        await join_parts(stores, parts, 4, b"", store.url_of("new.csv"), operation="op", is_overwrite=False)
    assert await store.head("new.csv") is None


def test_npy_bands_are_little_endian_rows() -> None:
    block = np.arange(6, dtype=">i4").reshape(3, 2, order="F")
    file = io.BytesIO(npy.header_bytes((3, 2), block.dtype) + bytes(encode_band(block, "npy")))
    assert np.array_equal(np.load(file), block)


async def test_a_part_beyond_bad_names_is_refused(stores: Stores) -> None:
    with pytest.raises(BadInput, match="is not a place tilefleet knows"):
        await join_parts(stores, "http://x/parts", 1, b"", "http://x/out.csv", operation="op", is_overwrite=False)


def test_there_is_nothing_to_bring_back_in_the_fleets_own_store(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    restore_replaced(tmp_path / "result")
    assert [path.name for path in tmp_path.iterdir()] == ["result"]
