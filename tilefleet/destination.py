"""Where a result shall go: settled before anything is computed, so that nobody waits an hour for a refusal.

The rule: an output never touches an input, nor the fleet's own objects; what is there stays unless ``--overwrite`` was said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from tilefleet import layout, ownership
from tilefleet.errors import AlreadyExists, BadInput, NotAllowed, NotFound
from tilefleet.inspection import locate
from tilefleet.ownership import Owner
from tilefleet.records import Output
from tilefleet.store import Stores, path_of
from tilefleet.submission import output_of, shown

_FLEETS_OWN = (layout.OPEN, layout.OPERATIONS, layout.LEADER, layout.CONTROL, "matrices", "staging")
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")


def locate_output(out: str | os.PathLike[str] | None, *, is_overwrite: bool = False) -> Output:
    """The output a user named, symbolic links followed. Raises BadInput for a name that says no format."""
    return output_of(None if out is None else locate(os.fspath(out)), is_overwrite=is_overwrite)


async def check_output(stores: Stores, out: Output, inputs: Iterable[str], fleet_store: str) -> None:
    """Raises BadInput for an output that is an input or lies in or around one, AlreadyExists, NotFound and NotAllowed."""
    if out.url is None:
        return
    _check_apart_from_fleet(out.url, fleet_store)
    for url in inputs:
        if await asyncio.to_thread(_overlaps, out.url, url):
            raise BadInput(f"the output {shown(out.url)} is or overlaps the input {shown(url)}; choose another place for it")
    if out.url.startswith("file:"):
        await asyncio.to_thread(_check_local, path_of(out.url), out)
    else:
        await _check_remote(stores, out.url, out)


def _check_apart_from_fleet(url: str, fleet_store: str) -> None:
    own = [f"{fleet_store.rstrip('/')}/{name}" for name in _FLEETS_OWN]
    if any(_is_within(url, place) or _is_within(place, url) for place in own):
        raise BadInput(f"the output {shown(url)} lies where the fleet keeps its own objects; choose another place for it")


def _is_within(url: str, place: str) -> bool:
    return f"{url}/".startswith(f"{place.rstrip('/')}/")


def _overlaps(out: str, source: str) -> bool:
    if _is_within(out, source) or _is_within(source, out):
        return True
    if not (out.startswith("file:") and source.startswith("file:")):
        return False
    try:
        return path_of(out).samefile(path_of(source))  # hard links, and names that differ by case where that is the same
    except OSError:
        return False


def _check_local(path: Path, out: Output) -> None:
    parent = path.parent
    if not parent.is_dir():
        raise NotFound(f"the directory {parent} for the output {path.name} does not exist; create it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise NotAllowed(
            f"the directory {parent} for the output {path.name} may not be written to; change its mode or choose another"
        )
    if not path.exists() or _is_empty_directory(path, out):
        return
    if not out.is_overwrite:
        raise _already(path)
    if path.is_dir() != (out.format == "zarr"):
        raise _irreplaceable(path, "a directory" if path.is_dir() else "a file")
    if path.is_dir() and not any((path / name).exists() for name in _ZARR_FILES):
        raise _irreplaceable(path, "a directory without a Zarr array")


def _irreplaceable(path: Path, what: str) -> BadInput:
    return BadInput(f"{path} is {what}, which --overwrite does not replace; choose another name")


def _is_empty_directory(path: Path, out: Output) -> bool:
    return out.format == "zarr" and path.is_dir() and next(path.iterdir(), None) is None


async def _check_remote(stores: Stores, url: str, out: Output) -> None:
    if out.format == "zarr":
        await ownership.check_free(stores, stores.open(url), is_overwrite=out.is_overwrite)
    if out.is_overwrite:
        return
    store, key = stores.locate(url)
    if await store.head(key) is not None:
        raise _already(url)
    if out.format != "zarr":
        async for _ in store.entries(key):
            raise _already(url)


async def make_room(stores: Stores, out: Output, owner: Owner) -> None:
    """Claim an array's URL, and remove the array that stands there and is to be replaced.

    Workers write the new tiles straight to the URL. A local array is replaced by a rename when the new one is complete, and
    a file in one piece; both stay until then. Raises AlreadyExists when somebody else writes there or was faster.
    """
    if is_claimed(out):
        assert out.url is not None  # noqa: S101 - is_claimed
        await ownership.claim(stores, stores.open(out.url), owner, is_overwrite=out.is_overwrite)


def is_claimed(out: Output) -> bool:
    """Whether the tiles go straight to the output: an array in S3."""
    return out.url is not None and out.format == "zarr" and not out.url.startswith("file:")


def _already(place: Path | str) -> AlreadyExists:
    return AlreadyExists(f"{place} exists already; choose another name, or replace it with --overwrite")
