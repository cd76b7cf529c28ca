"""Index arithmetic: tiles cover a matrix exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet.matrix import Grid, MatrixRef, Operand, Rect, ceil_div, default_tile, tile_key, tile_of_key

SMALL = st.integers(0, 12)
SIDE = st.integers(1, 5)


def _rect(rows: tuple[int, int], cols: tuple[int, int]) -> Rect:
    return Rect(min(rows), max(rows), min(cols), max(cols))


RECTS = st.builds(_rect, st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL))


@given(st.tuples(SMALL, SMALL), st.tuples(SIDE, SIDE))
def test_the_tiles_of_a_grid_cover_its_shape_once(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    grid = Grid(shape, tile)
    covered = np.zeros(shape, int)
    for i in range(grid.n_rows):
        for j in range(grid.n_cols):
            rect = grid.rect(i, j)
            assert rect.rows > 0 < rect.cols
            covered[rect.row0 : rect.row1, rect.col0 : rect.col1] += 1
    assert (covered == 1).all()
    assert grid.n_tiles == grid.n_rows * grid.n_cols


@given(RECTS, st.tuples(SIDE, SIDE))
def test_tiles_in_a_rectangle_are_those_that_overlap_it(rect: Rect, tile: tuple[int, int]) -> None:
    grid = Grid((12, 12), tile)
    every = [(i, j) for i in range(grid.n_rows) for j in range(grid.n_cols)]
    assert list(grid.tiles_in(rect)) == [(i, j) for i, j in every if grid.rect(i, j).intersect(rect).size > 0]


@given(RECTS, RECTS)
def test_an_intersection_is_what_both_cover(a: Rect, b: Rect) -> None:
    def cells(rect: Rect) -> set[tuple[int, int]]:
        return {(i, j) for i in range(rect.row0, rect.row1) for j in range(rect.col0, rect.col1)}

    common = a.intersect(b)
    assert common.rows >= 0 <= common.cols
    assert cells(common) == cells(a) & cells(b)
    assert a.transposed.intersect(b.transposed).size == common.size


@given(RECTS, RECTS)
def test_slices_within_pick_the_rectangle(outer: Rect, other: Rect) -> None:
    inner = outer.intersect(other)
    held = np.arange(144).reshape(12, 12)[outer.row0 : outer.row1, outer.col0 : outer.col1]
    if inner.size:
        rows, cols = inner.slices_within(outer)
        assert (held[rows, cols] == np.arange(144).reshape(12, 12)[inner.row0 : inner.row1, inner.col0 : inner.col1]).all()


def test_a_rectangle_knows_its_shape() -> None:
    rect = Rect(1, 4, 2, 10)
    assert (rect.shape, rect.size, rect.transposed) == ((3, 8), 24, Rect(2, 10, 1, 4))


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_ceil_div(a: int, b: int) -> None:
    assert (ceil_div(a, b) - 1) * b < a <= ceil_div(a, b) * b


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_tile_key_reads_back(i: int, j: int) -> None:
    assert tile_of_key(tile_key(i, j)) == (i, j)
    assert tile_of_key(f"some/prefix/{tile_key(i, j)}") == (i, j)


@pytest.mark.parametrize("key", ["", "c", "c/1", "zarr.json", "c/1/x", "c/-1/2", "d/1/2", "c/1/2/3", "c/²/1", "c/1/2/", "c/٣/1"])
def test_another_key_is_no_tile(key: str) -> None:
    assert tile_of_key(key) is None


@given(st.integers(0, 200_000), st.integers(0, 200_000), st.sampled_from([1, 2, 4, 8, 16]))
def test_the_default_tile_is_no_larger_than_its_target_and_ends_on_cells(m: int, n: int, itemsize: int) -> None:
    target = 8 * 2**20
    tile = default_tile((m, n), itemsize, target)
    assert tile[0] * tile[1] * itemsize <= target
    for length, side in zip((m, n), tile, strict=True):
        assert 1 <= side <= max(1, length)
        assert side >= length or side % 256 == 0  # random cells are 256 × 256


@given(st.integers(2048, 50_000), st.integers(2048, 50_000))
def test_the_default_tile_of_a_large_matrix_is_not_small(m: int, n: int) -> None:
    tile = default_tile((m, n), 8)
    assert tile[0] * tile[1] * 8 >= 2 * 2**20


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ((8192, 8192), (1024, 1024)),
        ((100, 100), (100, 100)),
        ((1, 10**7), (1, 1_000_192)),
        ((10**7, 1), (1_000_192, 1)),
        ((0, 5), (1, 5)),
        ((0, 0), (1, 1)),
    ],
)
def test_default_tiles(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    assert default_tile(shape, 8) == tile


def test_what_has_no_shape_yet_says_so() -> None:
    csv = MatrixRef("file:///a.csv", "csv")
    with pytest.raises(ValueError, match=r"file:///a\.csv has no tile grid"):
        _ = csv.grid
    with pytest.raises(ValueError, match=r"file:///a\.csv has no shape yet"):
        _ = Operand(csv).shape


def test_a_transposed_operand_has_the_transposed_shape() -> None:
    matrix = MatrixRef("s3://b/a", "zarr", (3, 5), "int8", (3, 5))
    assert Operand(matrix).shape == (3, 5)
    assert Operand(matrix, is_transposed=True).shape == (5, 3)
    assert matrix.grid == Grid((3, 5), (3, 5))
