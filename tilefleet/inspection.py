"""What a user's path or URL is: format, shape, element type and layout, from the first bytes alone.

The rule: nothing is trusted (no unpickling, no claimed length without a file that long) and nothing large is read.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from tilefleet import zarr_format
from tilefleet.dtypes import item_bytes
from tilefleet.errors import BadInput, NotFound
from tilefleet.formats import npy
from tilefleet.matrix import MatrixRef
from tilefleet.store import Store, Stores, file_url, path_of, shown

ALLOWED = ".npy, .csv, .csv.gz or .zarr"
_GZIP_MAGIC = b"\x1f\x8b"


def locate(location: str) -> str:
    """URL of what a user named: ``s3://bucket/key`` and ``file:///…`` as they are, a local path made absolute.

    Raises BadInput for a URL of another kind and for an empty name.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        if not location or "\0" in location:
            raise BadInput(f"{location!r} is not a path; write a local path or s3://bucket/key")
        return file_url(Path(location))
    if scheme == "file" and rest.startswith("/"):
        return file_url(path_of(location))
    if scheme == "s3" and "/" in rest.strip("/"):
        return location.rstrip("/")
    raise BadInput(f"{location!r} is not a place tilefleet knows; write a local path, s3://bucket/key or file:///path")


def format_of(location: str) -> Literal["zarr", "npy", "csv"]:
    """The format a name stands for. Raises BadInput for any other, naming those that are allowed."""
    name = location.rstrip("/").lower()
    if name.endswith(".zarr"):
        return "zarr"
    if name.endswith(".npy"):
        return "npy"
    if name.endswith((".csv", ".csv.gz")):
        return "csv"
    raise BadInput(f"{location} has a name of no known format; it must end in {ALLOWED}")


async def inspect(stores: Stores, location: str) -> MatrixRef:
    """The matrix at a local path or URL; a CSV has no shape and dtype yet.

    Raises NotFound, naming the place, and BadInput for what is not a matrix tilefleet can read.
    """
    url = locate(location)
    where = shown(url)
    try:
        kind = format_of(url)
    except BadInput:
        ref = await _zarr(stores, url, where)
        if ref is None:
            raise await _unknown(stores, url, where) from None
        return ref
    if kind == "zarr" or await asyncio.to_thread(_is_directory, url):
        ref = await _zarr(stores, url, where)
        if ref is None:
            raise await _no_array(stores, url, where)
        return ref
    store, key = stores.locate(url)
    entry = await store.head(key)
    if entry is None:
        await _is_there(stores, url)  # says when it is the bucket that is missing: the answer to a HEAD has no reason
        raise NotFound(f"there is no {where}")
    read = _npy if kind == "npy" else _csv
    return await read(store, key, url, entry.size_bytes, where)


async def _npy(store: Store, key: str, url: str, size_bytes: int, where: str) -> MatrixRef:
    first = bytes(await store.get_range(key, 0, min(size_bytes, npy.FIRST_BYTES)))
    header = npy.parse_header(first, where)
    needed = header.data_offset_bytes + header.shape[0] * header.shape[1] * item_bytes(header.dtype)
    if size_bytes < needed:
        raise BadInput(f"{where} is truncated: it has {size_bytes} bytes where its header promises {needed}; copy it again")
    return MatrixRef(
        url=url,
        format="npy",
        shape=header.shape,
        dtype=header.dtype,
        size_bytes=size_bytes,
        data_offset_bytes=header.data_offset_bytes,
        is_fortran_order=header.is_fortran_order,
        is_big_endian=header.is_big_endian,
    )


async def _csv(store: Store, key: str, url: str, size_bytes: int, where: str) -> MatrixRef:
    first = bytes(await store.get_range(key, 0, min(size_bytes, 2)))
    if not first:
        raise BadInput(f"{where} is empty; a CSV matrix has at least one line of numbers")
    is_gzip = first == _GZIP_MAGIC
    if url.lower().endswith(".gz") and not is_gzip:
        raise BadInput(f"{where} is not compressed with gzip although its name says so; rename it to end in .csv")
    return MatrixRef(url=url, format="csv", size_bytes=size_bytes, is_gzip=is_gzip)


async def _zarr(stores: Stores, url: str, where: str) -> MatrixRef | None:
    """The array at a URL; None when no Zarr metadata lies there."""
    store = stores.open(url)
    for key in (zarr_format.METADATA_KEY, zarr_format.METADATA_KEY_V2):
        metadata = await _get_if_there(store, key)
        if metadata is not None:
            return _renamed(zarr_format.describe(metadata, where), url)
    if await _get_if_there(store, ".zgroup") is not None:
        raise zarr_format.group_error(where)
    return None


def _renamed(ref: MatrixRef, url: str) -> MatrixRef:
    import msgspec

    return msgspec.structs.replace(ref, url=url)


async def _get_if_there(store: Store, key: str) -> bytes | None:
    try:
        return bytes(await store.get(key))
    except NotFound as error:
        if str(error).startswith("the bucket"):
            raise
        return None


async def _no_array(stores: Stores, url: str, where: str) -> BadInput | NotFound:
    if await _is_there(stores, url):
        return BadInput(f"{where} holds no complete Zarr array: there is no zarr.json or .zarray in it")
    return NotFound(f"there is no {where}")


async def _unknown(stores: Stores, url: str, where: str) -> BadInput | NotFound:
    if await _is_there(stores, url):
        return BadInput(f"{where} is of no known format; its name must end in {ALLOWED}")
    return NotFound(f"there is no {where}; a matrix is a file or directory that ends in {ALLOWED}")


async def _is_there(stores: Stores, url: str) -> bool:
    if url.startswith("file:"):
        return await asyncio.to_thread(path_of(url).exists)
    store, key = stores.locate(url)
    if await store.head(key) is not None:
        return True
    async for _ in store.entries(key):
        return True
    return False


def _is_directory(url: str) -> bool:
    return url.startswith("file:") and path_of(url).is_dir()
