"""Writing results: tiles that are written once, metadata last of all, files that appear whole or not at all.

The rule: every step may be repeated, also by two workers at once, and changes nothing the second time.
"""

from __future__ import annotations

import asyncio
import errno
import filecmp
import os
import secrets
import shutil
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Literal, TypeVar

import google_crc32c
import numpy as np

from tilefleet import layout, local_tiles, ownership
from tilefleet.bounded import for_each
from tilefleet.errors import AlreadyExists, NotFound
from tilefleet.footprint import tiles_at_once
from tilefleet.formats import csv
from tilefleet.matrix import MatrixRef, Rect, tile_key
from tilefleet.reading import FETCH_BYTES
from tilefleet.replacing import write_all
from tilefleet.store import Buffer, Store, Stores, path_of, shown, translated
from tilefleet.threads import in_thread_if_large
from tilefleet.zarr_format import CRC32C_BYTES, METADATA_KEY, metadata_json, operation_of

T = TypeVar("T")

COPY_BYTES = 2**18  # through a buffer that stays in the core's cache: half of the time of os.copy_file_range

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # file systems without hard links


async def write_tiles(
    store: Store, ref: MatrixRef, rect: Rect, block: np.ndarray, *, operation: str | None = None, concurrency: int = 16
) -> int:
    """Create the tiles of ``rect`` (tile-aligned) from ``block`` of shape ``rect.shape``; existing ones are left alone.

    Only one that a former owner of the place was late with is replaced, when ``operation`` says for whom this is; raises
    AlreadyExists when the place has another owner by now. Tiles at the edges are padded with zeros to full size; each ends
    in its crc32c. Returns the bytes written.
    """
    if block.shape != rect.shape or not _is_aligned(ref, rect):
        raise ValueError(f"a block of {block.shape} for {rect} does not consist of whole tiles of {ref.grid}")
    n_bytes = 0

    async def write(index: tuple[int, int]) -> None:
        nonlocal n_bytes
        part, key = block[ref.grid.rect(*index).slices_within(rect)], tile_key(*index)
        if (path := store.path(key)) is not None and part.strides[1] == part.itemsize:
            made = await in_thread_if_large(part.nbytes, create_local, path, store.shown(key), ref, [part])
            if made is not None:
                n_bytes += made
                return
        body = await in_thread_if_large(part.nbytes, encode_tile, ref, part)
        if await store.put_new(key, body):
            n_bytes += len(body)
        elif operation is not None:
            await _settle(store, key, body, operation)

    tile_bytes = ref.grid.tile[0] * ref.grid.tile[1] * block.itemsize
    await for_each(ref.grid.tiles_in(rect), write, concurrency=tiles_at_once(tile_bytes, concurrency), name="write-tile")
    return n_bytes


def create_local(path: Path, shown_: str, ref: MatrixRef, bands: Iterable[np.ndarray]) -> int | None:
    """``local_tiles.create_tile`` with errors for people: blocks."""
    try:
        return local_tiles.create_tile(path, ref, bands)
    except OSError as error:
        raise translated(error, shown_) from error


async def _settle(store: Store, key: str, body: np.ndarray, operation: str) -> None:
    """A tile was there: another attempt's, or in S3 one of an operation that had ended and whose worker did not know."""
    entry = await store.head(key)
    if entry is not None and entry.size_bytes == len(body):
        end = await store.get_range(key, len(body) - CRC32C_BYTES, len(body))
        if bytes(end) == body[-CRC32C_BYTES:].tobytes():
            return
    if (await ownership.newest(store)).owner is None:  # a place of the operation's own: attempts may differ by rounding
        return
    await ownership.check(store, operation)
    if await store.head(METADATA_KEY) is None:  # what is published stays
        await store.put(key, body)


def encode_tile(ref: MatrixRef, part: np.ndarray) -> np.ndarray:
    """One stored tile: ``part`` padded to the tile's shape, little-endian, and the crc32c where the layout has one."""
    tile_rows, tile_cols = ref.grid.tile
    dtype = np.dtype(ref.dtype).newbyteorder("<")
    n_bytes = tile_rows * tile_cols * dtype.itemsize
    body = np.empty(n_bytes + CRC32C_BYTES * (ref.layout == "raw+crc32c"), np.uint8)
    tile = body[:n_bytes].view(dtype).reshape(tile_rows, tile_cols)
    tile[: part.shape[0], : part.shape[1]] = part
    tile[part.shape[0] :] = 0
    tile[: part.shape[0], part.shape[1] :] = 0
    if len(body) > n_bytes:
        checksum = google_crc32c.value(body[:n_bytes]).to_bytes(CRC32C_BYTES, "little")
        body[n_bytes:] = np.frombuffer(checksum, np.uint8)
    return body


async def publish_zarr(store: Store, ref: MatrixRef, operation: str) -> None:
    """Write ``zarr.json``, which makes the tiles under ``store`` an array. Once it is there, it stays as it is.

    Raises AlreadyExists when there is one that another operation wrote.
    """
    if await store.put_new(METADATA_KEY, metadata_json(ref, operation)):
        return
    if operation_of(bytes(await store.get(METADATA_KEY))) != operation:
        raise _exists(shown(store.url))


def publish_directory(staged: Path, out: Path, operation: str, *, is_overwrite: bool) -> None:
    """Move a finished array directory (``zarr.json`` in it) to its name. Blocks: call it in a thread.

    Raises AlreadyExists when something else has the name and may not be replaced. After a crash, or twice, or by two
    workers, it ends in the same state.
    """
    replaced = out.with_name(f".{out.name}.replaced-{operation}")
    try:
        if _is_published(out, operation):
            shutil.rmtree(staged, ignore_errors=True)
        elif not staged.exists():
            raise NotFound(f"the tiles of {out} are gone from {staged}; submit the operation again")
        else:
            _move(staged, out, replaced, is_overwrite=is_overwrite)
        _remove(replaced)
    except OSError as error:
        raise translated(error, str(out)) from error


def encode_band(block: np.ndarray, kind: Literal["npy", "csv"]) -> Buffer:
    """A band of whole rows as it lies in a file of that format: npy elements (C order, little-endian) or CSV lines."""
    if kind == "csv":
        return csv.encode(block)
    return np.ascontiguousarray(block, block.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


async def join_parts(
    stores: Stores,
    parts_url: str,
    n_parts: int,
    header: bytes,
    out_url: str,
    *,
    operation: str,
    is_overwrite: bool,
    is_gzip: bool = False,
    checkpoint: Callable[[], None] = lambda: None,
) -> int:
    """``header`` and the parts ``{parts_url}/{index:08d}`` in order, as one file or object that appears whole.

    Holds a few pieces of 8 MiB. An ``out_url`` that has these very bytes already is success; other bytes raise
    AlreadyExists unless ``is_overwrite``. Raises NotFound for a missing part, and what ``checkpoint`` raises, which is called
    beside each piece and before the whole appears. Returns the length written.
    """

    def pieces() -> AsyncIterator[bytes]:
        return _watched(_pieces(stores, parts_url, n_parts, header, is_gzip), checkpoint)

    if out_url.startswith("file:"):
        is_copied = parts_url.startswith("file:") and not is_gzip
        source = _watched(_files(stores, parts_url, n_parts, header), checkpoint) if is_copied else pieces()
        return await write_file(source, path_of(out_url), operation, is_overwrite=is_overwrite)
    store, key = stores.locate(out_url)
    entry = await store.head(key)
    if entry is not None and not is_overwrite:
        if not await _has_same_bytes(store, key, entry.size_bytes, pieces()):
            raise _exists(out_url)
        return entry.size_bytes
    if is_overwrite:
        await store.put_stream(key, pieces())
    else:
        await _put_new(store, key, pieces(), out_url)
    written = await store.head(key)
    return written.size_bytes if written else 0


async def _watched(pieces: AsyncIterator[T], checkpoint: Callable[[], None]) -> AsyncIterator[T]:
    async for piece in pieces:
        checkpoint()
        yield piece
    checkpoint()


async def _put_new(store: Store, key: str, pieces: AsyncIterator[bytes], out_url: str) -> None:
    """Create an object. One of more than ``FETCH_BYTES`` is a multi-part upload, which S3 lets replace what came meanwhile."""
    begun: list[bytes] = []
    async for piece in pieces:
        begun.append(piece)
        if sum(map(len, begun)) > FETCH_BYTES:
            await store.put_stream(key, _chained(begun, pieces))
            return
    body = b"".join(begun)
    if not await store.put_new(key, body) and bytes(await store.get(key)) != body:
        raise _exists(out_url)


async def _chained(begun: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while begun:
        yield begun.pop(0)
    async for piece in rest:
        yield piece


async def _pieces(stores: Stores, parts_url: str, n_parts: int, header: bytes, is_gzip: bool) -> AsyncIterator[bytes]:
    compressor = zlib.compressobj(level=6, wbits=31) if is_gzip else None  # 31: gzip, with no time or name in its header
    async for piece in _plain_pieces(stores, parts_url, n_parts, header):
        data = await asyncio.to_thread(compressor.compress, piece) if compressor else piece
        if data:
            yield data
    if compressor:
        yield compressor.flush()


async def _plain_pieces(stores: Stores, parts_url: str, n_parts: int, header: bytes) -> AsyncIterator[bytes]:
    if header:
        yield header
    store, key = stores.locate(parts_url)
    for index in range(n_parts):
        part = layout.indexed(key, index)
        entry = await store.head(part)
        if entry is None:
            raise _missing_part(store, part)
        for start in range(0, entry.size_bytes, FETCH_BYTES):
            yield bytes(await store.get_range(part, start, min(start + FETCH_BYTES, entry.size_bytes)))


async def _files(stores: Stores, parts_url: str, n_parts: int, header: bytes) -> AsyncIterator[Buffer | Path]:
    yield header
    store, key = stores.locate(parts_url)
    for index in range(n_parts):
        part = layout.indexed(key, index)
        path = store.path(part)
        if path is None or not await asyncio.to_thread(path.is_file):
            raise _missing_part(store, part)
        yield path


def _missing_part(store: Store, part: str) -> NotFound:
    return NotFound(f"the part {store.shown(part)} is missing; submit the operation again")


async def write_file(pieces: AsyncIterator[Buffer | Path], out: Path, operation: str, *, is_overwrite: bool) -> int:
    """A local file of pieces, which appears whole; its length. A path stands for what is in that file.

    Raises AlreadyExists, and NotFound for a missing directory.
    """
    beginning = f".{out.name}.partial-{operation}"
    temporary = out.with_name(f"{beginning}-{secrets.token_hex(4)}")
    try:
        with await asyncio.to_thread(temporary.open, "xb", buffering=0) as file:
            async for piece in pieces:
                await asyncio.to_thread(_append, file, piece)
            n_bytes = file.tell()
        await asyncio.to_thread(_appear, temporary, out, is_overwrite=is_overwrite)
        await asyncio.to_thread(_sweep, out.parent, beginning)
    except FileNotFoundError as error:
        raise NotFound(f"there is no directory {out.parent} to write {out.name} into; create it first") from error
    except OSError as error:
        raise translated(error, str(out)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return n_bytes


def _append(file: FileIO, piece: Buffer | Path) -> None:
    if not isinstance(piece, Path):
        write_all(file, piece)
        return
    buffer = memoryview(bytearray(COPY_BYTES))
    with piece.open("rb", buffering=0) as part:
        while n_bytes := part.readinto(buffer):
            write_all(file, buffer[:n_bytes])


def _appear(temporary: Path, out: Path, *, is_overwrite: bool) -> None:
    try:
        _place(temporary, out, is_overwrite=is_overwrite)
    except FileNotFoundError:
        if not out.exists():  # else another attempt at this operation was first, and swept
            raise


def _place(temporary: Path, out: Path, *, is_overwrite: bool) -> None:
    try:
        if is_overwrite:
            temporary.replace(out)
        else:
            os.link(temporary, out)
    except FileExistsError:
        if not (out.is_file() and filecmp.cmp(temporary, out, shallow=False)):
            raise _exists(str(out)) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if out.exists():
            raise _exists(str(out)) from None
        temporary.rename(out)


def _sweep(directory: Path, beginning: str) -> None:
    """Remove what attempts that were killed left behind; the file is there, so nobody needs them."""
    for left in directory.iterdir():
        if left.name.startswith(beginning):
            left.unlink(missing_ok=True)


async def _has_same_bytes(store: Store, key: str, size_bytes: int, pieces: AsyncIterator[bytes]) -> bool:
    start = 0
    async for piece in pieces:
        if start + len(piece) > size_bytes or bytes(await store.get_range(key, start, start + len(piece))) != piece:
            return False
        start += len(piece)
    return start == size_bytes


def _move(staged: Path, out: Path, replaced: Path, *, is_overwrite: bool) -> None:
    if is_overwrite and out.exists():
        _remove(replaced)
        out.rename(replaced)
    try:
        staged.rename(out)
    except OSError as error:
        restore_replaced(staged)
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _exists(str(out)) from None
        raise


def restore_replaced(staged: Path) -> None:
    """Bring back what an operation had moved aside to replace it, when it ended before its own array had the name."""
    name, mark, operation = staged.name.removeprefix(".").rpartition(".partial-")
    if not name:  # a place in the fleet's own store, where nothing is moved aside
        return
    out, replaced = staged.with_name(name), staged.with_name(f".{name}.replaced-{operation}")
    with suppress(OSError):
        if mark and replaced.exists() and not out.exists():
            replaced.rename(out)


def _is_published(out: Path, operation: str) -> bool:
    try:
        return operation_of((out / METADATA_KEY).read_bytes()) == operation
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _exists(where: str) -> AlreadyExists:
    return AlreadyExists(f"{where} exists already; name another place or pass --overwrite")


def _is_aligned(ref: MatrixRef, rect: Rect) -> bool:
    (m, n), (tm, tn) = ref.grid.shape, ref.grid.tile
    is_begun = rect.row0 % tm == 0 and rect.col0 % tn == 0
    return is_begun and (rect.row1 % tm == 0 or rect.row1 == m) and (rect.col1 % tn == 0 or rect.col1 == n)
