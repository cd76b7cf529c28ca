"""Reading rectangles of stored matrices: tiles as they lie, npy by byte ranges, everything else through zarr-python.

The rules: bytes with a checksum are verified before they are used; a tile of ours that is missing is an error; never more
than the output and ``concurrency`` fetches are held; what takes the CPU longer than about a millisecond runs in a thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from tilefleet import layout, local_tiles
from tilefleet.bounded import for_each
from tilefleet.dtypes import parse_scalar
from tilefleet.errors import BadInput, NotFound, TilefleetError
from tilefleet.footprint import tile_bytes, tiles_at_once
from tilefleet.hedging import Hedge
from tilefleet.matrix import MatrixRef, Rect, tile_key
from tilefleet.store import Buffer, Store, Stores, is_of_store, path_of, said, shown, translated
from tilefleet.threads import in_thread, in_thread_if_large
from tilefleet.zarr_format import CRC32C_BYTES

FETCH_BYTES = 8 * 2**20  # ranged reads of 8–16 MiB in parallel fill a NIC
FETCHES = 3  # of a tile that arrives damaged
HANDLES = 32  # of foreign arrays: an operation reads three at most, and opening one takes a request
_GAP_BYTES = 2**20  # obstore fetches ranges closer than this together


class _Fetch(NamedTuple):
    """Rows [row0, row1) of an npy file as stored, and the bytes of each that are wanted."""

    row0: int
    row1: int
    starts: list[int]
    ends: list[int]


class Reader:
    """Reads matrices wherever they are. Safe to use from many tasks of one event loop."""

    def __init__(self, stores: Stores, *, concurrency: int = 16) -> None:
        self._stores = stores
        self._concurrency = concurrency
        self._handles = _Handles(stores)
        self._hedge = Hedge()

    async def read(self, ref: MatrixRef, rect: Rect, *, out: np.ndarray | None = None) -> np.ndarray:
        """The elements of ``rect`` of the matrix as stored: C order, little-endian, ``ref.dtype``, shape ``rect.shape``.

        Fills and returns ``out`` when given (of that shape and dtype, of any strides). Otherwise the array may be read-only:
        a rectangle that is exactly one tile is the fetched bytes themselves. Raises BadInput, naming the tile or file, for
        damaged bytes and NotFound for a tile of ours that is missing.
        """
        if ref.shape is None or ref.dtype is None or ref.format == "csv":
            raise BadInput(f"{shown(ref.url)} is text; convert it to .zarr or .npy before reading a part of it")
        if rect != rect.intersect(Rect(0, ref.shape[0], 0, ref.shape[1])):
            raise ValueError(f"{rect} is not inside the shape {ref.shape} of {ref.url}")
        if rect.size == 0:
            return np.empty(rect.shape, ref.dtype) if out is None else out
        if ref.format == "npy":
            return await self._read_npy(ref, rect, out)
        if ref.layout == "codec":
            return await in_thread(self._read_codec, ref, rect, out)
        return await self._read_tiles(ref, rect, out)

    # ---- raw Zarr tiles ---------------------------------------------------------------------------------------------

    async def _read_tiles(self, ref: MatrixRef, rect: Rect, out: np.ndarray | None) -> np.ndarray:
        store = self._stores.open(ref.url)
        tiles = ref.grid.tiles_in(rect)
        if out is None and _is_one_tile(ref, rect) and store.path("") is None:
            i, j = next(tiles)
            tile = await _fetch_tile(store, ref, i, j, self._hedge)
            return np.full(rect.shape, parse_scalar(ref.fill_value), ref.dtype) if tile is None else tile[: rect.rows]
        target = np.empty(rect.shape, ref.dtype) if out is None else out
        paste = partial(_paste_tile, store, ref, rect, target, self._hedge)
        await for_each(tiles, paste, concurrency=tiles_at_once(tile_bytes(ref), self._concurrency), name="read-tile")
        return target

    # ---- npy --------------------------------------------------------------------------------------------------------

    async def _read_npy(self, ref: MatrixRef, rect: Rect, out: np.ndarray | None) -> np.ndarray:
        target = np.empty(rect.shape, ref.dtype) if out is None else out
        rows, cols = ref.shape or (0, 0)
        stored, view, length = rect, target, cols
        if ref.is_fortran_order:  # the file holds the transposed matrix in C order
            stored, view, length = rect.transposed, target.T, rows
        store, key = self._stores.locate(ref.url)
        await _check_length(store, key, ref)
        paste = partial(_paste_rows, store, key, ref, stored, view)
        fetches = _npy_fetches(stored, length, np.dtype(ref.dtype).itemsize, ref.data_offset_bytes)
        await for_each(fetches, paste, concurrency=tiles_at_once(FETCH_BYTES, self._concurrency), name="read-npy")
        return target

    # ---- foreign codecs ---------------------------------------------------------------------------------------------

    def _read_codec(self, ref: MatrixRef, rect: Rect, out: np.ndarray | None) -> np.ndarray:
        """In a thread: zarr-python has an event loop in a thread of its own and blocks on it."""
        try:
            array = self._handles.open(ref)
            block = np.asarray(array[rect.row0 : rect.row1, rect.col0 : rect.col1])
        except TilefleetError:
            raise
        except Exception as error:  # codecs raise anything on damaged bytes
            self._handles.forget(ref)  # the array may have been written anew, with other codecs
            if is_of_store(error):
                raise translated(error, shown(ref.url)) from error
            raise BadInput(
                f"{shown(ref.url)} cannot be decoded by zarr-python; it is damaged or uses an unknown codec: {said(error)}"
            ) from error
        if out is None:
            return np.ascontiguousarray(block, np.dtype(ref.dtype).newbyteorder("<"))
        out[...] = block
        return out


class _Handles:
    """The foreign arrays that were read last, opened; used from threads."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._arrays: OrderedDict[MatrixRef, Any] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, ref: MatrixRef) -> Any:
        """zarr-python's array."""
        with self._lock:
            if ref in self._arrays:
                self._arrays.move_to_end(ref)
                return self._arrays[ref]
        array = _open_array(self._stores, ref)
        with self._lock:
            self._arrays[ref] = array
            while len(self._arrays) > HANDLES:
                self._arrays.popitem(last=False)
        return array

    def forget(self, ref: MatrixRef) -> None:
        """Open it anew the next time."""
        with self._lock:
            self._arrays.pop(ref, None)


async def _paste_tile(store: Store, ref: MatrixRef, rect: Rect, target: np.ndarray, hedge: Hedge, index: tuple[int, int]) -> None:
    tile_rect = ref.grid.rect(*index)
    wanted = tile_rect.intersect(rect)
    part = target[wanted.slices_within(rect)]
    if (path := store.path(tile_key(*index))) is not None and part.strides[1] == part.itemsize:
        await in_thread_if_large(part.nbytes, _read_local, path, store, ref, index, wanted.slices_within(tile_rect), part)
        return
    tile, inner = await _fetch_rows(store, ref, index, wanted, hedge)
    if tile is None:
        part[...] = parse_scalar(ref.fill_value)
        return
    await in_thread_if_large(part.nbytes, np.copyto, part, tile[wanted.slices_within(inner)])


def _read_local(
    path: Path, store: Store, ref: MatrixRef, index: tuple[int, int], within: tuple[slice, slice], part: np.ndarray
) -> None:
    try:
        with _told(store.shown(tile_key(*index))):
            local_tiles.read_tile(path, ref, within, part)
    except (FileNotFoundError, NotADirectoryError):
        _refuse_missing(store, ref, tile_key(*index))
        part[...] = parse_scalar(ref.fill_value)


def local_bands(store: Store, ref: MatrixRef, index: tuple[int, int], rows: int) -> Iterator[np.ndarray]:
    """``local_tiles.read_bands`` of the elements of one tile (no padding), with errors for people: blocks."""
    wanted, path = ref.grid.rect(*index), path_of(store.url_of(tile_key(*index)))
    left = wanted.rows
    try:
        with _told(store.shown(tile_key(*index))):
            for band in local_tiles.read_bands(path, ref, rows):
                yield band[: max(0, left), : wanted.cols]
                left -= rows
    except (FileNotFoundError, NotADirectoryError):
        _refuse_missing(store, ref, tile_key(*index))
        band = np.full((rows, wanted.cols), parse_scalar(ref.fill_value), ref.dtype)
        yield from (band[: max(0, wanted.rows - first)] for first in range(0, ref.grid.tile[0], rows))


@contextmanager
def _told(shown_: str) -> Iterator[None]:
    """Errors of ``local_tiles`` as sentences; a file that is not there is the caller's to judge."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except local_tiles.WrongLength as error:
        raise _wrong_length(shown_, *error.args) from None
    except local_tiles.WrongChecksum:
        raise _damaged(shown_) from None
    except OSError as error:
        raise translated(error, shown_) from error


async def _fetch_rows(
    store: Store, ref: MatrixRef, index: tuple[int, int], wanted: Rect, hedge: Hedge
) -> tuple[np.ndarray | None, Rect]:
    """Elements around ``wanted`` and the rectangle they cover: the whole tile, or fewer rows where no checksum forbids it."""
    tile_rect = ref.grid.rect(*index)
    if ref.layout == "raw+crc32c" or 2 * wanted.rows > ref.grid.tile[0]:
        return await _fetch_tile(store, ref, *index, hedge), tile_rect
    band = Rect(wanted.row0, wanted.row1, tile_rect.col0, tile_rect.col1)
    return await _fetch_band(store, ref, index, band, hedge), band


async def _fetch_tile(store: Store, ref: MatrixRef, i: int, j: int, hedge: Hedge) -> np.ndarray | None:
    """Tile (i, j), verified, as a read-only array of the whole tile shape; None for a missing one of a foreign array.

    One that arrives damaged is fetched again: that may have happened on the way, not in the store.
    """
    for _ in range(FETCHES - 1):
        with suppress(BadInput):
            return await _fetch_tile_once(store, ref, i, j, hedge)
    return await _fetch_tile_once(store, ref, i, j, hedge)


async def _fetch_tile_once(store: Store, ref: MatrixRef, i: int, j: int, hedge: Hedge) -> np.ndarray | None:
    key = tile_key(i, j)
    try:
        data = await hedge.read(tile_bytes(ref), lambda: store.get(key))
    except NotFound:
        _refuse_missing(store, ref, key)
        return None
    n_bytes = memoryview(data).nbytes
    tile: np.ndarray = await in_thread_if_large(n_bytes, decode_tile, data, ref, store.shown(key))
    return tile


async def _fetch_band(store: Store, ref: MatrixRef, index: tuple[int, int], band: Rect, hedge: Hedge) -> np.ndarray | None:
    key, (tile_rows, tile_cols) = tile_key(*index), ref.grid.tile
    row_bytes = tile_cols * np.dtype(ref.dtype).itemsize
    first = (band.row0 - index[0] * tile_rows) * row_bytes
    try:
        data = await hedge.read(band.rows * row_bytes, lambda: store.get_range(key, first, first + band.rows * row_bytes))
    except NotFound:
        _refuse_missing(store, ref, key)
        return None
    if memoryview(data).nbytes != band.rows * row_bytes:
        raise _wrong_length(store.shown(key), first + memoryview(data).nbytes, tile_rows * row_bytes)
    return np.frombuffer(data, ref.dtype).reshape(band.rows, tile_cols)


def _refuse_missing(store: Store, ref: MatrixRef, key: str) -> None:
    """A missing tile means the fill value, but not in an array of ours, where every tile was written."""
    if ref.is_ours:
        raise NotFound(f"the tile {store.shown(key)} is missing; {_way_out(store.shown(key))}")


def decode_tile(data: Buffer, ref: MatrixRef, url: str) -> np.ndarray:
    """The elements of a whole raw tile, shape ``ref.tile``, without a copy (read-only). Raises BadInput, naming ``url``."""
    raw = np.frombuffer(data, np.uint8)
    tile_rows, tile_cols = ref.grid.tile
    dtype = np.dtype(ref.dtype)
    n_bytes = tile_rows * tile_cols * dtype.itemsize
    has_checksum = ref.layout == "raw+crc32c"
    if len(raw) != n_bytes + CRC32C_BYTES * has_checksum:
        raise _wrong_length(url, len(raw), n_bytes + CRC32C_BYTES * has_checksum)
    if has_checksum and google_crc32c.value(raw[:n_bytes]) != int.from_bytes(raw[n_bytes:].tobytes(), "little"):
        raise _damaged(url)
    return raw[:n_bytes].view(dtype).reshape(tile_rows, tile_cols)


def _damaged(url: str) -> BadInput:
    return BadInput(f"the tile {url} is damaged: its crc32c does not match; {_way_out(url)}")


def _wrong_length(url: str, found: int, expected: int) -> BadInput:
    return BadInput(f"the tile {url} is damaged: it has {found} bytes where there must be {expected}; {_way_out(url)}")


def _way_out(url: str) -> str:
    operation = layout.operation_of_tile(url)
    return f"'tilefleet repair {operation}' computes it again" if operation else "restore it, or make the matrix again"


def _is_one_tile(ref: MatrixRef, rect: Rect) -> bool:
    (tile_rows, tile_cols), cols = ref.grid.tile, rect.cols
    index = (rect.row0 // tile_rows, rect.col0 // tile_cols)
    return cols == tile_cols and ref.grid.rect(*index) == rect


def _npy_fetches(rect: Rect, row_length: int, itemsize: int, data_offset_bytes: int) -> Iterator[_Fetch]:
    """Reads that cover ``rect`` of a C-order file with rows of ``row_length`` elements, about ``FETCH_BYTES`` each."""
    stride, wanted = row_length * itemsize, rect.cols * itemsize
    is_contiguous = rect.cols == row_length
    span = stride if stride - wanted < _GAP_BYTES else wanted
    step = max(1, FETCH_BYTES // span)
    for row0 in range(rect.row0, rect.row1, step):
        row1 = min(row0 + step, rect.row1)
        first = data_offset_bytes + rect.col0 * itemsize
        if is_contiguous:
            yield _Fetch(row0, row1, [first + row0 * stride], [first + row1 * stride])
        else:
            starts = [first + row * stride for row in range(row0, row1)]
            yield _Fetch(row0, row1, starts, [start + wanted for start in starts])


async def _paste_rows(store: Store, key: str, ref: MatrixRef, rect: Rect, target: np.ndarray, fetch: _Fetch) -> None:
    dtype = np.dtype(ref.dtype).newbyteorder(">" if ref.is_big_endian else "<")
    lines = target[fetch.row0 - rect.row0 : fetch.row1 - rect.row0]
    path, is_contiguous = store.path(key), len(fetch.starts) > 1 or lines.flags.c_contiguous
    if path is not None and is_contiguous and lines.strides[1] == lines.itemsize:
        await in_thread_if_large(lines.nbytes, _read_local_rows, path, store, key, fetch.starts, lines, ref.is_big_endian)
        return
    if len(fetch.starts) == 1:
        pieces = [await _fetch_exactly(store, key, fetch.starts[0], fetch.ends[0])]
        shape = lines.shape
    else:
        pieces = await store.get_ranges(key, fetch.starts, fetch.ends)
        shape = (1, rect.cols)
    await in_thread_if_large(lines.nbytes, _copy_pieces, lines, pieces, dtype, shape)


async def _check_length(store: Store, key: str, ref: MatrixRef) -> None:
    """obstore panics when one of several ranges is beyond the end."""
    entry = await store.head(key)
    if entry is None:
        raise NotFound(f"there is no {store.shown(key)}")
    if entry.size_bytes < ref.size_bytes:
        raise _shrank(store, key)


def _shrank(store: Store, key: str) -> BadInput:
    return BadInput(f"{store.shown(key)} is shorter than it was when it was looked at; it was truncated or changed")


async def _fetch_exactly(store: Store, key: str, start: int, end: int) -> Buffer:
    data = await store.get_range(key, start, end)
    if memoryview(data).nbytes != end - start:
        raise _shrank(store, key)
    return data


def _read_local_rows(path: Path, store: Store, key: str, starts: list[int], lines: np.ndarray, is_big_endian: bool) -> None:
    try:
        local_tiles.read_rows(path, starts, lines)
    except local_tiles.WrongLength:
        raise _shrank(store, key) from None
    except OSError as error:
        raise translated(error, store.shown(key)) from error
    if is_big_endian:
        lines.byteswap(inplace=True)


def _copy_pieces(lines: np.ndarray, pieces: list[Buffer], dtype: np.dtype, shape: tuple[int, int]) -> None:
    for index, piece in enumerate(pieces):
        lines[index * shape[0] : (index + 1) * shape[0]] = np.frombuffer(piece, dtype).reshape(shape)


def _open_array(stores: Stores, ref: MatrixRef) -> Any:
    import zarr
    from zarr.storage import LocalStore, ObjectStore

    if ref.url.startswith("file:"):
        return zarr.open_array(LocalStore(path_of(ref.url), read_only=True), mode="r")
    store = stores.open(ref.url)
    return zarr.open_array(ObjectStore(store.backend, read_only=True), path=store.prefix, mode="r")
