"""Any format in, any format out: text, npy in every layout, our tiles, arrays of others; and others open what we write."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import tilefleet
from tests.acceptance.deployment import QUICK, Place, assert_agrees, place
from tilefleet.blocking import BlockingClient

from_zarr: Any = dask.array.from_zarr  # it has no types
A = np.arange(300 * 257, dtype=np.int64).reshape(300, 257) % 1009 - 500
B = np.random.default_rng(5).standard_normal((257, 290))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("formats"), f'{QUICK}[local]\nworkers = 2\nmemory = "600 MiB"\n') as made:
        yield made


@pytest.fixture(scope="module")
def client(here: Place) -> Iterator[BlockingClient]:
    with tilefleet.connect(here.config) as made:
        yield made


def text(matrix: np.ndarray, end: str = "\n", last: str = "\n") -> bytes:
    return (end.join(",".join(map(repr, row)) for row in matrix.tolist()) + last).encode()


def foreign(path: Path, matrix: np.ndarray, **how: Any) -> None:
    array = zarr.create_array(path, shape=matrix.shape, dtype=matrix.dtype, **how)
    array[:] = matrix


WRITERS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "plain.csv": lambda path, matrix: path.write_bytes(text(matrix)),
    "windows.csv": lambda path, matrix: path.write_bytes(text(matrix, "\r\n", "")),
    "packed.csv.gz": lambda path, matrix: path.write_bytes(gzip.compress(text(matrix))),
    "c.npy": np.save,
    "fortran.npy": lambda path, matrix: np.save(path, np.asfortranarray(matrix)),
    "big-endian.npy": lambda path, matrix: np.save(path, matrix.astype(matrix.dtype.newbyteorder(">"))),
    "raw.zarr": lambda path, matrix: foreign(path, matrix, chunks=(64, 100), compressors=None),
    "zstd.zarr": lambda path, matrix: foreign(path, matrix, chunks=(64, 100), compressors=ZstdCodec()),
    "blosc.zarr": lambda path, matrix: foreign(path, matrix, chunks=(150, 90), compressors=BloscCodec()),
    "sharded.zarr": lambda path, matrix: foreign(path, matrix, chunks=(50, 50), shards=(100, 150), compressors=GzipCodec()),
    "v2.zarr": lambda path, matrix: foreign(path, matrix, chunks=(64, 100), zarr_format=2),
    "v2-fortran.zarr": lambda path, matrix: foreign(path, matrix, chunks=(64, 100), zarr_format=2, order="F"),
}  # fmt: skip


def read(path: Path) -> np.ndarray:
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(path, mode="r")[:])
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    kind = np.complex128 if path.stem.startswith("complex") else None
    return np.loadtxt(path, delimiter=",", ndmin=2, dtype=kind or float)


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_format_in(here: Place, client: BlockingClient, name: str) -> None:
    left, right = here.directory / f"a-{name}", here.directory / f"b-{name}"
    WRITERS[name](left, A)
    WRITERS[name](right, B)
    submitted = [
        client.multiply(left, right), client.multiply(right, left, transpose_a=True, transpose_b=True),
        client.convert(left), client.add(left, A), client.transpose(right),
    ]  # fmt: skip
    expected = [A @ B, B.T @ A.T, A, A + A, B.T]
    for operation, wanted in zip(submitted, expected, strict=True):
        operation.wait()
        assert_agrees(operation.result(), wanted, 257)


@pytest.mark.parametrize("out", ["csv", "csv.gz", "npy", "zarr"])
def test_every_format_out(here: Place, client: BlockingClient, out: str) -> None:
    """From the fleet straight to OUT, and fetched afterwards: the same values, to the bit."""
    ways = {"int": A, "float": B, "complex": A[:, :40] * (1 + 0.5j), "empty": np.empty((0, 4)), "flag": A[:20] > 0}
    operations = {name: client.convert(matrix, out=here.directory / f"{name}-out.{out}") for name, matrix in ways.items()}
    kept = {name: client.convert(matrix) for name, matrix in ways.items() if name != "empty"}
    for name, operation in operations.items():
        operation.wait()
        path = here.directory / f"{name}-out.{out}"
        if out.startswith("csv") and name in ("complex", "empty"):
            assert_agrees(_read_back(client, path, ways[name].dtype.name), ways[name].reshape(-1, ways[name].shape[1]))
            continue
        found = read(path)
        np.testing.assert_array_equal(found, ways[name])
        assert out.startswith("csv") or found.dtype == ways[name].dtype
    for name, operation in kept.items():
        operation.wait()
        fetched = here.directory / f"{name}-fetched.{out}"
        operation.save(fetched)
        if not (out.startswith("csv") and name == "complex"):
            np.testing.assert_array_equal(read(fetched), ways[name])


def _read_back(client: BlockingClient, path: Path, dtype: str) -> Any:
    if path.stat().st_size == 0 or (path.suffix == ".gz" and not gzip.decompress(path.read_bytes())):
        return np.empty((0, 4))
    operation = client.convert(path, csv_dtype=dtype)
    operation.wait()
    return operation.result()


def test_others_open_our_result_unchanged(here: Place, client: BlockingClient) -> None:
    path = here.directory / "ours.zarr"
    client.multiply(A, B, out=path, tile=(128, 100)).wait()
    expected = A @ B
    theirs = zarr.open_array(path, mode="r")
    assert (theirs.shape, theirs.chunks, theirs.dtype) == (expected.shape, (128, 100), expected.dtype)
    attributes: Any = theirs.attrs.asdict()
    assert attributes["tilefleet"]["complete"] is True
    assert_agrees(theirs[:], expected, 257)
    lazy = from_zarr(str(path))
    assert_agrees((lazy + 1).compute(scheduler="synchronous"), expected + 1, 257)
    kept = client.multiply(A, B)
    kept.wait()
    assert_agrees(from_zarr(kept.result().to_zarr()).compute(scheduler="synchronous"), expected, 257)


@pytest.mark.thorough
def test_a_mix_through_the_command(here: Place) -> None:
    """CSV × npy + zarr, into compressed text; then as a file, its corner and its description."""
    WRITERS["plain.csv"](here.directory / "x.csv", A)
    WRITERS["fortran.npy"](here.directory / "y.npy", A)
    WRITERS["sharded.zarr"](here.directory / "z.zarr", A.T @ A)
    fused = ("--transpose-a", "--alpha", "2", "--beta", "-1", "--add-to", "z.zarr")
    here.output("multiply", "x.csv", "y.npy", *fused, "-o", "o.csv.gz")
    expected = 2 * (A.T @ A) - A.T @ A
    np.testing.assert_array_equal(np.loadtxt(here.directory / "o.csv.gz", delimiter=","), expected)
    here.output("convert", "o.csv.gz", "o.npy")
    assert_agrees(np.load(here.directory / "o.npy"), expected)
    described = here.json("info", "o.npy")
    assert (described["shape"], described["dtype"]) == ([257, 257], "int64")
    assert here.json("head", "o.npy", "--rows", "2", "--cols", "3")["rows"] == expected[:2, :3].tolist()
    assert here.json("verify", "--all", "--kind", "multiply")
