"""Operands that workers cannot see where they are: arrays of the client, and a laptop's files when the fleet is far away.

The rule: first find out what every operand is (``ground`` writes nothing), then, once all is checked, ``put`` each under
``staging/<op>/``. Memory: ``CONCURRENCY`` tiles or pieces, whatever the size of the operand.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tilefleet import layout
from tilefleet.bounded import for_each
from tilefleet.dtypes import parse_dtype
from tilefleet.errors import BadInput, NotFound, TilefleetError
from tilefleet.inspection import inspect
from tilefleet.matrix import MatrixRef, Operand, Rect, default_tile
from tilefleet.session import Session
from tilefleet.store import Store, path_of
from tilefleet.submission import Source

if TYPE_CHECKING:
    import numpy as np

CONCURRENCY = 4
PIECE_BYTES = 8 * 2**20


class Grounded(NamedTuple):
    """An operand that was looked at: where it will be, and what must be copied there first."""

    operand: Operand
    array: np.ndarray | None = None
    is_upload: bool = False

    def transposed(self) -> Grounded:
        return self._replace(operand=Operand(self.operand.matrix, not self.operand.is_transposed))


async def ground(session: Session, source: Source, operation: str, name: str) -> Grounded:
    """What a source is. Raises BadInput and NotFound for what is no matrix; writes nothing."""
    if isinstance(source, (str, os.PathLike)):
        source = Operand(await inspect(session.stores, os.fspath(source)))
    elif not isinstance(source, (MatrixRef, Operand)):
        from tilefleet.lazy import LazyMatrix

        source = source.operand if isinstance(source, LazyMatrix) else source
    if isinstance(source, MatrixRef):
        source = Operand(source)
    if isinstance(source, Operand):
        return Grounded(source, is_upload=_is_out_of_sight(session, source.matrix.url))
    array = _array(source, name)
    url = session.store.url_of(f"{layout.staging(operation)}/{name}")
    shape = (array.shape[0], array.shape[1])
    dtype = parse_dtype(array.dtype.str, f"array {name}")
    tile = default_tile(shape, dtype.itemsize)
    return Grounded(Operand(MatrixRef(url, "zarr", shape, dtype.name, tile, is_ours=True)), array)


async def put(session: Session, operation: str, name: str, source: Grounded) -> Operand:
    """Copy an operand to where the workers see it, when they do not; the operand as they see it."""
    matrix = source.operand.matrix
    if source.array is not None:
        from tilefleet.writing import publish_zarr, write_tiles

        store = session.stores.open(matrix.url)
        rect = Rect(0, source.array.shape[0], 0, source.array.shape[1])
        await write_tiles(store, matrix, rect, source.array, concurrency=CONCURRENCY)
        await publish_zarr(store, matrix, operation)
    elif source.is_upload:
        matrix = await _upload(session.store, matrix, f"{layout.staging(operation)}/{name}")
    return Operand(matrix, source.operand.is_transposed)


async def withdraw(session: Session, operation: str) -> None:
    """Remove what was staged for an operation that was not submitted after all, as far as the store lets us."""
    with suppress(TilefleetError):
        await session.store.delete_prefix(layout.staging(operation))


def _is_out_of_sight(session: Session, url: str) -> bool:
    return not session.is_local and url.startswith("file:") and not url.startswith(f"{session.store.url.rstrip('/')}/")


def _array(source: Any, name: str) -> np.ndarray:
    import numpy as np

    if source is None or not (isinstance(source, (np.ndarray, list, tuple)) or hasattr(source, "__array__")):
        raise BadInput(f"matrix {name} is a {type(source).__name__}; give a path, a URL, an array or a result of tilefleet")
    try:
        array = np.asarray(source)
    except ValueError as error:
        raise BadInput(f"matrix {name} cannot be made an array: {error}") from error
    if array.ndim != 2:
        has = "1 dimension" if array.ndim == 1 else f"{array.ndim} dimensions"
        raise BadInput(f"matrix {name} has {has}, not 2; for a vector use reshape(1, -1) or reshape(-1, 1)")
    return array


async def _upload(store: Store, matrix: MatrixRef, key: str) -> MatrixRef:
    path = path_of(matrix.url)
    if matrix.format == "zarr":
        files = await asyncio.to_thread(lambda: [file for file in path.rglob("*") if file.is_file()])

        async def send(file: Path) -> None:
            await _send_file(store, f"{key}/{file.relative_to(path).as_posix()}", file, await asyncio.to_thread(_size, file))

        await for_each(files, send, concurrency=CONCURRENCY, name="upload")
    else:
        await _send_file(store, key, path, matrix.size_bytes)
    return msgspec.structs.replace(matrix, url=store.url_of(key))


async def _send_file(store: Store, key: str, path: Path, size_bytes: int) -> None:
    if size_bytes <= PIECE_BYTES:
        pieces = [piece async for piece in _pieces(path, size_bytes)]
        await store.put(key, b"".join(pieces))
    else:
        await store.put_stream(key, _pieces(path, size_bytes))


async def _pieces(path: Path, size_bytes: int) -> AsyncIterator[bytes]:
    """The file in pieces. Raises BadInput when it has not the length it had when it was looked at."""
    sent = 0
    try:
        file = await asyncio.to_thread(path.open, "rb")
    except FileNotFoundError:
        raise NotFound(f"there is no {path} any more") from None
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            sent += len(piece)
            yield piece
    if sent != size_bytes:
        raise BadInput(f"{path} was changed while it was uploaded; submit again when nothing writes to it")


def _size(path: Path) -> int:
    return path.stat().st_size
