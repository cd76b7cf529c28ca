"""A matrix that lies in a store, read as it is used: slicing fetches only the tiles it needs.

The rule: nothing is cached and nothing is written; every read goes to the store, so memory is what the caller asked for
and the tiles in flight.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tilefleet import background
from tilefleet.errors import BadInput
from tilefleet.matrix import MatrixRef, Operand, Rect, ceil_div
from tilefleet.reading import Reader
from tilefleet.store import Stores, path_of

Index = int | slice | Any  # Any: Ellipsis has no spelling that mypy and 3.11 share


class LazyMatrix:
    """A 2-D array-like: ``shape``, ``dtype``, slicing, ``np.asarray``. ``.T`` is the transpose, without reading anything."""

    ndim = 2

    def __init__(self, stores: Stores, operand: Operand) -> None:
        if operand.matrix.shape is None or operand.matrix.dtype is None or operand.matrix.format == "csv":
            raise BadInput(
                f"{operand.matrix.url} is text, which has no rows to look up; make an array of it with 'tilefleet convert'"
            )
        self._stores = stores
        self.operand = operand
        self.shape: tuple[int, int] = operand.shape
        self.dtype: np.dtype = np.dtype(operand.matrix.dtype).newbyteorder("<")

    @property
    def ref(self) -> MatrixRef:
        """The matrix as it is stored (not transposed)."""
        return self.operand.matrix

    @property
    def tile(self) -> tuple[int, int] | None:
        """What is read at once, as this view has it; None for npy, which is read by byte ranges."""
        if self.ref.tile is None:
            return None
        rows, cols = self.ref.tile
        return (cols, rows) if self.operand.is_transposed else (rows, cols)

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> LazyMatrix:  # noqa: N802 - NumPy's name
        """The transpose: a view, which operations take without copying it."""
        return LazyMatrix(self._stores, Operand(self.ref, not self.operand.is_transposed))

    def __repr__(self) -> str:
        view = ".T" if self.operand.is_transposed else ""
        return f"<LazyMatrix {self.shape[0]}×{self.shape[1]} {self.dtype.name} at {self.ref.url}{view}>"

    def __len__(self) -> int:
        return self.shape[0]

    async def read(self, rect: Rect | None = None, *, concurrency: int = 16) -> np.ndarray:
        """A rectangle (None: all) as an array of its own. Raises BadInput for one that is not inside, and for bad tiles."""
        rect = rect or Rect(0, self.shape[0], 0, self.shape[1])
        if not (0 <= rect.row0 <= rect.row1 <= self.shape[0] and 0 <= rect.col0 <= rect.col1 <= self.shape[1]):
            raise BadInput(f"{rect} is not inside a matrix of {self.shape[0]}×{self.shape[1]}")
        # A Reader of its own: those of the caller's loop and of the blocking one must not share locks.
        stored = rect.transposed if self.operand.is_transposed else rect
        block = await Reader(self._stores, concurrency=concurrency).read(self.ref, stored)
        if not block.flags.writeable:  # a single tile: the fetched bytes themselves
            block = block.copy()
        return block.T if self.operand.is_transposed else block

    async def read_index(self, index: Index) -> Any:
        """What NumPy gives for ``matrix[index]`` with integers, slices and ``...``. Raises IndexError as NumPy does."""
        rows, cols = (_Axis.of(item, length) for item, length in zip(_pair(index), self.shape, strict=True))
        asked = (0 if rows.is_integer else slice(None), 0 if cols.is_integer else slice(None))
        if rows.count and cols.count and rows.is_contiguous and cols.is_contiguous:
            return (await self.read(Rect(rows.indices[0], rows.indices[-1] + 1, cols.indices[0], cols.indices[-1] + 1)))[asked]
        out = np.empty((rows.count, cols.count), self.dtype)
        tile = self.tile or (256, 256)  # npy: byte ranges, so any step will do
        for row_run in rows.runs(tile[0]):
            for col_run in cols.runs(tile[1]):
                block = await self.read(Rect(row_run.start, row_run.stop, col_run.start, col_run.stop))
                out[row_run.place, col_run.place] = block[row_run.pick, col_run.pick]
        return out[asked]

    def __getitem__(self, index: Index) -> Any:
        return background.run(self.read_index(index))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a matrix in a store cannot become an array without a copy")
        array = background.run(self.read())
        return array if dtype is None else array.astype(dtype, copy=False)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(self.shape[0]))

    async def exists(self) -> bool:
        """Whether its metadata (or its file) still lies there."""
        store, key = self._stores.locate(self.ref.url)
        if self.ref.format != "zarr":
            return await store.head(key) is not None
        array = self._stores.open(self.ref.url)
        return any([await array.head(name) is not None for name in ("zarr.json", ".zarray")])

    async def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> str:
        """Write it to a local path or URL ending in .zarr, .npy, .csv or .csv.gz, in bounded memory; returns the URL."""
        from tilefleet.saving import save

        return await save(self._stores, self, out, overwrite=overwrite)

    def to_zarr(self) -> Any:
        """A read-only ``zarr.Array`` for Dask (``dask.array.from_zarr``) and xarray. Raises BadInput for one that is not Zarr."""
        if self.ref.format != "zarr" or self.operand.is_transposed:
            what = "a transposed view" if self.operand.is_transposed else "not a Zarr array"
            raise BadInput(f"{self.ref.url} is {what}; save it as .zarr first")
        return _open_zarr(self._stores, self.ref.url)


class _Run(NamedTuple):
    """Indices read at once: the half-open range that spans them, which of it to pick, and where they go in the output."""

    start: int
    stop: int
    pick: slice
    place: slice


@dataclass(frozen=True)
class _Axis:
    """One axis of an index: a range of indices, as ``range`` has it."""

    indices: range
    is_integer: bool

    @classmethod
    def of(cls, item: Any, length: int) -> _Axis:
        if isinstance(item, slice):
            return cls(range(*item.indices(length)), False)
        index = item.__index__()
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of bounds for an axis of length {length}")
        return cls(range(index % length, index % length + 1), True)

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def is_contiguous(self) -> bool:
        return self.indices.step == 1

    def runs(self, tile: int) -> Iterator[_Run]:
        """One run for neighbouring indices; with gaps, one for each tile, so that memory is that of the output and a tile."""
        if not self.indices:
            return
        if self.is_contiguous:
            yield _Run(self.indices[0], self.indices[-1] + 1, slice(None), slice(None))
            return
        step = abs(self.indices.step)
        ascending = self.indices if self.indices.step > 0 else self.indices[::-1]
        done = 0
        while done < len(ascending):
            first = ascending[done]
            end = (first // tile + 1) * tile
            count = min(ceil_div(end - first, step), len(ascending) - done)
            place = slice(done, done + count)
            if self.indices.step < 0:
                place = _reversed(place, len(ascending))
            yield _Run(first, first + (count - 1) * step + 1, slice(None, None, step), place)
            done += count


def _reversed(place: slice, length: int) -> slice:
    last = length - 1 - place.start
    end = length - 1 - place.stop
    return slice(last, None if end < 0 else end, -1)


def _pair(index: Any) -> tuple[Any, Any]:
    """The indices of the two axes. Raises IndexError for what is not two integers or slices."""
    items = list(index) if isinstance(index, tuple) else [index]
    dots = [position for position, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can have only one ...")
    if dots:
        items[dots[0] : dots[0] + 1] = [slice(None)] * (3 - len(items))
    items += [slice(None)] * (2 - len(items))
    if len(items) > 2:
        raise IndexError(f"too many indices: a matrix has 2 axes, and {len(items)} were given")
    if not all(isinstance(item, slice) or _is_integer(item) for item in items):
        raise IndexError("a stored matrix takes integers, slices and ... as indices; use np.asarray(matrix)[index]")
    return items[0], items[1]


def _is_integer(item: Any) -> bool:
    return isinstance(item, (int, np.integer)) and not isinstance(item, bool)


def _open_zarr(stores: Stores, url: str) -> Any:
    import zarr
    from zarr.storage import LocalStore, ObjectStore

    if url.startswith("file:"):
        return zarr.open_array(LocalStore(path_of(url), read_only=True), mode="r")
    store = stores.open(url)
    return zarr.open_array(ObjectStore(store.backend, read_only=True), path=store.prefix, mode="r")
