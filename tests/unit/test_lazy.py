"""Lazy matrices: every index NumPy's way, and only the tiles that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilefleet import background
from tilefleet.config import StoreSection
from tilefleet.errors import AlreadyExists, BadInput, NotFound
from tilefleet.inspection import inspect
from tilefleet.lazy import LazyMatrix
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.store import Stores, file_url, path_of
from tilefleet.writing import publish_zarr, write_tiles

SHAPE, TILE = (23, 17), (5, 4)
VALUES = np.arange(SHAPE[0] * SHAPE[1], dtype="<i4").reshape(SHAPE)


async def stored(path: Path, values: np.ndarray = VALUES, tile: tuple[int, int] = TILE) -> LazyMatrix:
    stores = Stores(StoreSection())
    ref = MatrixRef(file_url(path), "zarr", (values.shape[0], values.shape[1]), values.dtype.name, tile, is_ours=True)
    await write_tiles(stores.open(ref.url), ref, Rect(0, values.shape[0], 0, values.shape[1]), values)
    await publish_zarr(stores.open(ref.url), ref, "0123456789ab")
    return LazyMatrix(stores, Operand(ref))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> LazyMatrix:
    return background.run(stored(tmp_path_factory.mktemp("lazy") / "m.zarr"))


def axis_index(length: int) -> st.SearchStrategy[Any]:
    ends = st.none() | st.integers(-length - 3, length + 3)
    steps = st.none() | st.integers(-9, 9).filter(bool)
    return st.integers(-length, length - 1) | st.builds(slice, ends, ends, steps)


indices = st.one_of(
    st.tuples(axis_index(SHAPE[0]), axis_index(SHAPE[1])),
    axis_index(SHAPE[0]),
    st.just(...),
    st.tuples(st.just(...), axis_index(SHAPE[1])),
    st.tuples(axis_index(SHAPE[0]), st.just(...)),
    st.tuples(axis_index(SHAPE[0]), axis_index(SHAPE[1]), st.just(...)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(indices)
def test_every_index_gives_what_numpy_gives(matrix: LazyMatrix, index: Any) -> None:
    expected, found = VALUES[index], matrix[index]
    assert np.shape(found) == np.shape(expected)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.tuples(axis_index(SHAPE[1]), axis_index(SHAPE[0])))
def test_the_transpose_is_a_view_with_numpys_indices(matrix: LazyMatrix, index: Any) -> None:
    assert np.array_equal(matrix.T[index], VALUES.T[index])
    assert matrix.T.T.operand == matrix.operand


@pytest.mark.parametrize("index", [23, -24, (0, 17), (0, 0, 0), (..., 0, ...), [0, 1], np.array([1]), None, True, "a", 1.0])
def test_other_indices_are_refused_as_numpy_refuses_them(matrix: LazyMatrix, index: Any) -> None:
    with pytest.raises(IndexError):
        matrix[index]


def test_it_knows_what_an_array_knows(matrix: LazyMatrix) -> None:
    assert (matrix.shape, matrix.dtype, matrix.ndim, matrix.size, matrix.nbytes) == (SHAPE, np.dtype("int32"), 2, 391, 1564)
    assert len(matrix) == 23
    assert matrix.T.shape == SHAPE[::-1]
    assert "23×17 int32" in repr(matrix)
    assert [row.sum() for row in matrix][:2] == [VALUES[0].sum(), VALUES[1].sum()]


def test_numpy_makes_an_array_of_it(matrix: LazyMatrix) -> None:
    assert np.array_equal(np.asarray(matrix), VALUES)
    assert np.asarray(matrix, dtype="float32").dtype == np.float32
    assert np.array_equal(np.asarray(matrix) + matrix, 2 * VALUES)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(matrix, copy=False)


def test_what_is_read_may_be_changed_without_changing_the_matrix(matrix: LazyMatrix) -> None:
    block = matrix[0:5, 0:4]  # exactly one tile
    block[:] = -1
    background.run(matrix.read(Rect(0, 5, 0, 4)))[:] = -1
    whole = np.array(matrix)
    whole[:] = -1
    assert np.array_equal(np.asarray(matrix), VALUES)


async def test_only_the_tiles_that_are_needed_are_read(tmp_path: Path) -> None:
    matrix = await stored(tmp_path / "m.zarr")
    tiles = {(int(file.parent.name), int(file.name)) for file in (tmp_path / "m.zarr" / "c").glob("*/*")}
    for i, j in tiles - {(1, 0), (1, 1), (3, 1)}:
        (tmp_path / "m.zarr" / "c" / str(i) / str(j)).unlink()
    assert np.array_equal(await matrix.read(Rect(6, 10, 2, 8)), VALUES[6:10, 2:8])
    assert np.array_equal(await matrix.read_index((slice(7, None, 10), 5)), VALUES[7::10, 5])  # not the tile between
    with pytest.raises(NotFound, match="c/2/1"):
        await matrix.read(Rect(6, 16, 4, 8))


async def test_a_rectangle_outside_is_refused(tmp_path: Path) -> None:
    matrix = await stored(tmp_path / "m.zarr")
    with pytest.raises(BadInput, match="not inside"):
        await matrix.read(Rect(0, 24, 0, 1))


async def test_it_works_while_a_loop_runs_as_in_a_notebook(tmp_path: Path) -> None:
    matrix = await stored(tmp_path / "m.zarr")
    assert matrix[3, 3] == VALUES[3, 3]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
async def test_empty_matrices(tmp_path: Path, shape: tuple[int, int]) -> None:
    matrix = await stored(tmp_path / "m.zarr", np.empty(shape, "float32"), (1, 1))
    assert np.asarray(matrix).shape == shape
    assert matrix[::-1].shape == shape
    await matrix.save(tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").shape == shape


async def test_a_npy_file_reads_as_well(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.asfortranarray(VALUES))
    stores = Stores(StoreSection())
    matrix = LazyMatrix(stores, Operand(await inspect(stores, str(tmp_path / "m.npy"))))
    assert np.array_equal(matrix[::-2, 3:9:4], VALUES[::-2, 3:9:4])
    assert await matrix.exists()
    with pytest.raises(BadInput, match="not a Zarr array"):
        matrix.to_zarr()


def test_text_is_not_indexed() -> None:
    with pytest.raises(BadInput, match="convert"):
        LazyMatrix(Stores(StoreSection()), Operand(MatrixRef("file:///a.csv", "csv", (1, 1), "int64")))


def test_dask_reads_the_zarr_array(matrix: LazyMatrix) -> None:
    import dask.array

    array = matrix.to_zarr()
    assert array.read_only
    with dask.config.set(scheduler="synchronous"):
        assert int(dask.array.from_zarr(array).sum().compute()) == VALUES.sum()  # type: ignore[no-untyped-call]
    with pytest.raises(BadInput, match="transposed"):
        matrix.T.to_zarr()


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("name", ["out.npy", "out.csv", "out.csv.gz", "out.zarr"])
@pytest.mark.parametrize("band_bytes", [100, 2**20])
async def test_saving_in_bands(
    tmp_path: Path, name: str, is_transposed: bool, band_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tilefleet import saving

    monkeypatch.setattr(saving, "BAND_BYTES", band_bytes)
    monkeypatch.setattr(saving, "TEXT_ELEMENTS", band_bytes // 8)
    matrix = await stored(tmp_path / "m.zarr")
    matrix, expected = (matrix.T, VALUES.T) if is_transposed else (matrix, VALUES)
    url = await matrix.save(tmp_path / name)
    assert url == file_url(tmp_path / name)
    assert np.array_equal(await read_back(url), expected)
    assert not any(name.startswith(".") for name in names_in(tmp_path))
    with pytest.raises(AlreadyExists, match="--overwrite"):
        await matrix.save(tmp_path / name)
    await matrix.save(tmp_path / name, overwrite=True)
    assert np.array_equal(await read_back(url), expected)


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def read_back(url: str) -> np.ndarray:
    path = path_of(url)
    if path.name.endswith((".csv", ".csv.gz")):
        return np.loadtxt(path, delimiter=",", dtype="int32", ndmin=2)
    stores = Stores(StoreSection())
    return await LazyMatrix(stores, Operand(await inspect(stores, str(path)))).read()


async def test_saving_that_fails_leaves_nothing(tmp_path: Path) -> None:
    matrix = await stored(tmp_path / "m.zarr")
    (tmp_path / "m.zarr" / "c" / "3" / "1").write_bytes(b"damaged")
    for name in ("out.zarr", "out.npy", "out.csv.gz"):
        with pytest.raises(BadInput, match="damaged"):
            await matrix.save(tmp_path / name)
    assert names_in(tmp_path) == ["m.zarr"]


async def test_a_matrix_is_not_saved_onto_itself(tmp_path: Path) -> None:
    matrix = await stored(tmp_path / "m.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "m.zarr")
    for out in (tmp_path / "m.zarr", tmp_path / "link.zarr", tmp_path / "m.zarr" / "in.npy"):
        with pytest.raises(BadInput, match="overlaps"):
            await matrix.save(out, overwrite=True)
    assert np.array_equal(await matrix.read(), VALUES)
