"""Whose an OUT.zarr in S3 is, where tiles lie at their final place from the beginning and their keys name no operation.

The rule: the newest of ``tilefleet/owner/<number>`` below OUT is the owner; each is created once, and nobody creates one
while the newest names an operation that is open. Only the owner clears OUT, publishes it and cleans up after itself. The
newest is never removed, so numbers only grow and a late reader of the list cannot win.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tilefleet import layout
from tilefleet.errors import AlreadyExists, NotFound
from tilefleet.records import from_json, to_json
from tilefleet.store import Store, Stores

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")  # without these, nothing opens as an array


class Owner(msgspec.Struct, frozen=True):
    """Who writes an array: an operation, and the store of its fleet (empty for a copy that a client makes itself)."""

    operation: str
    store: str = ""


class Owned(NamedTuple):
    """The newest owner of an array and its number; number 0 where there has been none."""

    number: int
    owner: Owner | None

    def is_of(self, operation: str) -> bool:
        return self.owner is not None and self.owner.operation == operation


async def newest(out: Store) -> Owned:
    """The owner of the array under ``out``."""
    number = max([layout.epoch_of_key(entry.key) or 0 async for entry in out.entries(layout.OWNERS)], default=0)
    if number == 0:
        return Owned(0, None)
    key = layout.owner(number)
    try:
        return Owned(number, from_json(bytes(await out.get(key)), Owner, out.url_of(key)))
    except NotFound:  # cleared between the two by a newer one
        return await newest(out)


async def check_free(stores: Stores, out: Store, *, is_overwrite: bool) -> Owned:
    """The owner so far. Raises AlreadyExists while an operation writes there, or when something is there that shall stay."""
    found = await newest(out)
    if found.owner is not None and await _is_open(stores, found.owner):
        raise being_written(out.url, found.owner.operation)
    if not is_overwrite:
        async for entry in out.entries():
            if not _is_owner_key(entry.key):
                raise AlreadyExists(f"{out.url} exists already; choose another name, or replace it with --overwrite")
    return found


async def claim(stores: Stores, out: Store, owner: Owner, *, is_overwrite: bool) -> None:
    """Make ``owner``, whose open mark must stand, the owner of ``out``, and remove what is there, metadata first.

    Of several that come at once one wins. Raises AlreadyExists for all others, and as ``check_free`` does.
    """
    before = await check_free(stores, out, is_overwrite=is_overwrite)
    key = layout.owner(before.number + 1)
    is_new = await out.put_new(key, to_json(owner))
    now = await newest(out)
    if not now.is_of(owner.operation):
        if is_new:  # the list was old: others have come and gone since
            await out.delete([key])
        raise being_written(out.url, now.owner.operation if now.owner else "of another client")
    await _clear(out, layout.owner(now.number))


async def check(out: Store, operation: str) -> None:
    """Raises AlreadyExists when ``out`` is not, or no longer, that of the operation."""
    found = await newest(out)
    if not found.is_of(operation):
        name = f"operation {found.owner.operation}" if found.owner else "somebody who removed what was there"
        raise AlreadyExists(f"{out.url} was taken over by {name}; operation {operation} does not publish its result there")


async def give_up(out: Store, operation: str) -> None:
    """Remove what an operation that did not end well wrote, if the array is still its own; its mark of ownership stays."""
    found = await newest(out)
    if found.is_of(operation):
        await _clear(out, layout.owner(found.number))


def being_written(url: str, operation: str) -> AlreadyExists:
    return AlreadyExists(f"{url} is being written by operation {operation}; wait for it, cancel it, or choose another name")


async def _clear(out: Store, kept: str) -> None:
    await out.delete(METADATA)
    await out.delete([entry.key async for entry in out.entries() if entry.key != kept])


async def _is_open(stores: Stores, owner: Owner) -> bool:
    return bool(owner.store) and await stores.open(owner.store).head(layout.open_mark(owner.operation)) is not None


def _is_owner_key(key: str) -> bool:
    return key.startswith(f"{layout.OWNERS}/")
