"""Matrices as rectangles of tiles: pure index arithmetic, and the reference that names a stored matrix.

Rows and columns are half-open ranges. A tile is one storage chunk (Zarr's word: chunk); edge tiles are stored
full-size and padded, as the Zarr v3 regular chunk grid has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import unquote

import msgspec

from tilefleet.dtypes import DtypeName


class Rect(msgspec.Struct, frozen=True, array_like=True):
    """Rows [row0, row1) × columns [col0, col1)."""

    row0: int
    row1: int
    col0: int
    col1: int

    @property
    def rows(self) -> int:
        return self.row1 - self.row0

    @property
    def cols(self) -> int:
        return self.col1 - self.col0

    @property
    def shape(self) -> tuple[int, int]:
        return (self.rows, self.cols)

    @property
    def size(self) -> int:
        return self.rows * self.cols

    @property
    def transposed(self) -> Rect:
        return Rect(self.col0, self.col1, self.row0, self.row1)

    def intersect(self, other: Rect) -> Rect:
        """The common part; it may be empty, never negative."""
        row0, col0 = max(self.row0, other.row0), max(self.col0, other.col0)
        return Rect(row0, max(row0, min(self.row1, other.row1)), col0, max(col0, min(self.col1, other.col1)))

    def slices_within(self, outer: Rect) -> tuple[slice, slice]:
        """Index of this rectangle in an array that holds ``outer``."""
        return (
            slice(self.row0 - outer.row0, self.row1 - outer.row0),
            slice(self.col0 - outer.col0, self.col1 - outer.col0),
        )


def ceil_div(a: int, b: int) -> int:
    """⌈a / b⌉ for b > 0."""
    return -(-a // b)


class Grid(msgspec.Struct, frozen=True):
    """A shape cut into tiles (or blocks) of one size; those at the edges may reach over it."""

    shape: tuple[int, int]
    tile: tuple[int, int]

    @property
    def n_rows(self) -> int:
        """Number of tile rows."""
        return ceil_div(self.shape[0], self.tile[0])

    @property
    def n_cols(self) -> int:
        """Number of tile columns."""
        return ceil_div(self.shape[1], self.tile[1])

    @property
    def n_tiles(self) -> int:
        return self.n_rows * self.n_cols

    def rect(self, i: int, j: int) -> Rect:
        """What tile (i, j) covers of the shape."""
        (m, n), (tm, tn) = self.shape, self.tile
        return Rect(i * tm, min((i + 1) * tm, m), j * tn, min((j + 1) * tn, n))

    def tiles_in(self, rect: Rect) -> Iterator[tuple[int, int]]:
        """Indices (i, j) of the tiles that overlap ``rect``, row by row."""
        if rect.size == 0:
            return
        tm, tn = self.tile
        for i in range(rect.row0 // tm, ceil_div(rect.row1, tm)):
            for j in range(rect.col0 // tn, ceil_div(rect.col1, tn)):
                yield i, j


class MatrixRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a matrix is and how its bytes lie. ``shape`` and ``dtype`` are None for a CSV that was not scanned yet."""

    url: str
    """``file:///…`` or ``s3://bucket/key``: the Zarr array's directory, or the one file."""
    format: Literal["zarr", "npy", "csv"]
    shape: tuple[int, int] | None = None
    dtype: DtypeName | None = None
    """NumPy's name, always little-endian in tiles; ``is_big_endian`` is for foreign npy files."""
    tile: tuple[int, int] | None = None
    """Zarr only: the chunk shape."""
    layout: Literal["raw", "raw+crc32c", "codec"] = "raw+crc32c"
    """Zarr only: raw tiles are read as they lie; ``codec`` ones (compressed, sharded, Zarr v2 …) through zarr-python."""
    is_ours: bool = False
    """Zarr only: every tile exists, so a missing one is an error; elsewhere it means ``fill_value``."""
    fill_value: str = "0"
    """Zarr only: as ``parse_scalar`` reads it."""
    size_bytes: int = 0
    """npy and csv: length of the file."""
    data_offset_bytes: int = 0
    """npy: where the elements begin."""
    is_fortran_order: bool = False
    is_big_endian: bool = False
    is_gzip: bool = False
    """csv: compressed as one gzip stream."""

    @property
    def grid(self) -> Grid:
        """The tile grid of a Zarr matrix."""
        if self.shape is None or self.tile is None:
            raise ValueError(f"{self.url} has no tile grid")
        return Grid(self.shape, self.tile)


class Operand(msgspec.Struct, frozen=True, omit_defaults=True):
    """op(X): a matrix, read as it is or transposed (not conjugated)."""

    matrix: MatrixRef
    is_transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        if self.matrix.shape is None:
            raise ValueError(f"{self.matrix.url} has no shape yet")
        m, n = self.matrix.shape
        return (n, m) if self.is_transposed else (m, n)


LONG_SIDE = 8192
_TILE_KEY = re.compile(r"(?:^|/)c/(\d{1,18})/(\d{1,18})\Z", re.ASCII)


def tile_key(i: int, j: int) -> str:
    """Zarr v3 default chunk key, relative to the array."""
    return f"c/{i}/{j}"


def tile_of_key(key: str) -> tuple[int, int] | None:
    """Inverse of ``tile_key`` for the last three segments of a key; None when it is not a tile's."""
    match = _TILE_KEY.search(key)
    return (int(match[1]), int(match[2])) if match else None


def default_tile(shape: tuple[int, int], itemsize: int, target_bytes: int = 8 * 2**20) -> tuple[int, int]:
    """Tile for a matrix of ours: near ``target_bytes`` (8–16 MiB objects fill a NIC), multiples of 256, evenly cut.

    256 is the side of a random cell (``tilefleet random``). A matrix that is thin in one dimension gets tiles that are
    long in the other.
    """
    elements = target_bytes // itemsize
    square = max(256, int(elements**0.5) // 256 * 256)
    thin = max(1, min(*shape, square))
    long = max(square, elements // thin // 256 * 256)
    m, n = shape
    return (_even(m, square), _even(n, long)) if m <= n else (_even(m, long), _even(n, square))


def _even(length: int, side: int) -> int:
    """Between two thirds of ``side`` and all of it, what cuts ``length`` with the least padding; a multiple of 256."""
    if length <= side:
        return max(1, length)
    if side > LONG_SIDE:  # then any padding is small
        return min(side, ceil_div(ceil_div(length, ceil_div(length, side)), 256) * 256)
    sides = range(max(256, ceil_div(2 * side, 768) * 256), max(256, side) + 1, 256)
    return min(sides, key=lambda candidate: (ceil_div(length, candidate) * candidate, -candidate))


def place_text(url: str) -> str:
    """A URL as the user would write it: local files as paths."""
    return unquote(url.removeprefix("file://")) if url.startswith("file:///") else url
