"""What a path or URL is: every readable thing is recognised, every other gets its sentence."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from tilefleet.errors import BadInput, NotFound
from tilefleet.inspection import format_of, inspect, locate
from tilefleet.store import Stores, file_url, shown

A = np.arange(12.0).reshape(3, 4)


async def test_npy_files(stores: Stores, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "f.NPY.npy", np.asfortranarray(A))
    np.save(tmp_path / "b.npy", A.astype(">i2"))
    ref = await inspect(stores, str(tmp_path / "a.npy"))
    assert (ref.format, ref.shape, ref.dtype, ref.data_offset_bytes, ref.size_bytes) == ("npy", (3, 4), "float64", 128, 128 + 96)
    assert (await inspect(stores, str(tmp_path / "f.NPY.npy"))).is_fortran_order
    big = await inspect(stores, str(tmp_path / "b.npy"))
    assert (big.dtype, big.is_big_endian) == ("int16", True)


async def test_an_npy_file_with_room_after_its_data(stores: Stores, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    with (tmp_path / "a.npy").open("ab") as file:
        file.write(b"more")
    assert (await inspect(stores, str(tmp_path / "a.npy"))).shape == (3, 4)


async def test_csv_files(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,2\n")
    (tmp_path / "b.CSV.GZ").write_bytes(gzip.compress(b"1,2\n"))
    (tmp_path / "c.csv").write_bytes(gzip.compress(b"1,2\n"))
    ref = await inspect(stores, str(tmp_path / "a.csv"))
    assert (ref.format, ref.shape, ref.dtype, ref.size_bytes, ref.is_gzip) == ("csv", None, None, 4, False)
    assert (await inspect(stores, str(tmp_path / "b.CSV.GZ"))).is_gzip
    assert (await inspect(stores, str(tmp_path / "c.csv"))).is_gzip


@pytest.mark.parametrize("name", ["m.zarr", "m", "m.zarr/"])
@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_zarr_arrays_by_name_and_by_content(stores: Stores, tmp_path: Path, name: str, zarr_format: int) -> None:
    zarr.create_array(tmp_path / name, data=A, zarr_format=zarr_format)  # type: ignore[arg-type]
    ref = await inspect(stores, f"{tmp_path}/{name}")
    assert (ref.format, ref.shape, ref.layout) == ("zarr", (3, 4), "codec")
    assert ref.url == file_url(tmp_path / name)


async def test_a_directory_named_like_a_file_is_looked_into(stores: Stores, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "m.npy", data=A)
    assert (await inspect(stores, str(tmp_path / "m.npy"))).format == "zarr"


@pytest.mark.parametrize("name", ["a b.npy", "é.npy", "a#1.npy", "a%41.npy", "100%.npy", "a?b.npy", "[1].npy", "a;b&c.npy"])
async def test_any_file_name(stores: Stores, tmp_path: Path, name: str) -> None:
    np.save(tmp_path / name, A)
    for location in (str(tmp_path / name), file_url(tmp_path / name)):
        ref = await inspect(stores, location)
        assert ref.shape == (3, 4)
        assert shown(ref.url) == str(tmp_path / name)


async def test_relative_paths(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", A)
    monkeypatch.chdir(tmp_path)
    assert (await inspect(stores, "a.npy")).url == file_url(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("e.csv", b"", "e.csv is empty; a CSV matrix has at least one line"),
        ("e.csv.gz", b"", "is empty"),
        ("x.csv.gz", b"1,2\n", "is not compressed with gzip although its name says so"),
        ("x.npy", b"", "not in npy format"),
        ("x.npy", b"1,2\n", "not in npy format"),
        ("x.txt", b"1,2\n", r"of no known format; its name must end in \.npy, \.csv, \.csv\.gz or \.zarr"),
        ("x", b"1,2\n", "of no known format"),
        ("x.zarr", b"PK", "x.zarr holds no complete Zarr array"),
    ],
)
async def test_files_that_are_no_matrix(stores: Stores, tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=sentence) as caught:
        await inspect(stores, str(tmp_path / name))
    assert str(caught.value).startswith(str(tmp_path))


async def test_a_truncated_npy_file(stores: Stores, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    os.truncate(tmp_path / "a.npy", 200)
    with pytest.raises(BadInput, match="is truncated: it has 200 bytes where its header promises 224; copy it again"):
        await inspect(stores, str(tmp_path / "a.npy"))


@pytest.mark.parametrize("name", ["a.npy", "a.csv", "a.csv.gz", "a.zarr", "a.txt", "dir", "no/such/a.npy"])
async def test_what_is_not_there(stores: Stores, tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound, match=f"^there is no {tmp_path}/{name}"):
        await inspect(stores, str(tmp_path / name))


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_a_group_is_not_an_array(stores: Stores, tmp_path: Path, zarr_format: int) -> None:
    zarr.create_group(tmp_path / "g.zarr", zarr_format=zarr_format)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="is a Zarr group, which holds arrays; name one array in it"):
        await inspect(stores, str(tmp_path / "g.zarr"))


async def test_an_array_without_metadata_is_not_complete(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "m.zarr" / "c" / "0").mkdir(parents=True)
    (tmp_path / "m.zarr" / "c" / "0" / "0").write_bytes(b"x")
    with pytest.raises(BadInput, match="holds no complete Zarr array"):
        await inspect(stores, str(tmp_path / "m.zarr"))


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("s3://bucket/a.npy", "s3://bucket/a.npy"),
        ("s3://bucket/a b%20.zarr/", "s3://bucket/a b%20.zarr"),
        ("file:///no/such/a%20b.npy", "file:///no/such/a%20b.npy"),
        ("/no/such/a b.npy", "file:///no/such/a%20b.npy"),
        ("/no/such/a%20b.npy", "file:///no/such/a%2520b.npy"),
    ],
)
def test_locations_become_urls(location: str, url: str) -> None:
    assert locate(location) == url


@pytest.mark.parametrize(
    "location", ["http://x/a.npy", "s3://bucket", "s3://bucket/", "file://host/a.npy", "", "a\0b", "gs://b/a"]
)
def test_other_places_are_refused(location: str) -> None:
    with pytest.raises(BadInput, match="write a local path"):
        locate(location)


def test_formats_by_name() -> None:
    names = ("a.npy", "A.NPY", "a.csv", "a.csv.gz", "a.zarr", "a.zarr/")
    assert [format_of(name) for name in names] == ["npy", "npy", "csv", "csv", "zarr", "zarr"]
    for name in ("a", "a.gz", "a.npz", "npy"):
        with pytest.raises(BadInput, match=r"must end in \.npy, \.csv, \.csv\.gz or \.zarr"):
            format_of(name)
