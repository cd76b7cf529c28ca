"""What fleets left behind in an account and region, by their tags, and whether each fleet is still alive.

The rule: a fleet lives when its coordinator wrote to its store lately, or it was made lately; one whose store cannot be read is
not taken for dead. A fleet that was stopped does not live either, and is marked: only a person knows whether it is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from coordinator.fleet.ec2 import instances, tags
from coordinator.fleet.ec2.account import Account
from coordinator.fleet.ec2.belongings import Finder, in_order
from coordinator.fleet.ec2.quotes import Quotes
from coordinator.fleet.ec2.removal import Remover
from coordinator.fleet.ports import Tell
from coordinator.fleet.records import Belonging
from tilefleet import layout
from tilefleet.config import Config
from tilefleet.errors import NotFound, TilefleetError
from tilefleet.store import Stores

SWITCHED_OFF = ({"stopped"}, {"stopping"}, {"stopped", "stopping"})
LATELY_S = 15 * 60.0  # a leader writes every two seconds; a first `fleet up` takes five minutes


class Traces(msgspec.Struct, frozen=True):
    """Everything in the account and region that carries one fleet's tag."""

    fleet: str
    belongings: tuple[Belonging, ...]
    """In the order in which it must be removed."""
    created_at: float = 0.0
    """When the oldest of it was made; 0 where nothing says."""
    usd_per_hour: float = 0.0
    """What its running instances cost."""
    store_url: str = ""
    """Where the fleet's records lie, by its tags."""
    heard_at: float = 0.0
    """When its coordinator last wrote to its store; 0: never, or the store is gone."""
    is_alive: bool = False
    """Whether that was a short time ago, or the fleet was just made."""
    is_stopped: bool = False
    """Whether it has instances, and all are stopped or about to be: somebody switched it off and means to switch it on again."""
    trouble: str = ""
    """Why its store cannot be read, so that nobody knows whether it lives."""


async def traces(config: Config) -> list[Traces]:
    """All fleets with something in the configured account and region, the configured one included."""
    account = Account(config)
    try:
        return await _traces(account, config)
    finally:
        await account.close()


async def remove(config: Config, belongings: Iterable[Belonging], tell: Tell) -> None:
    """Remove exactly these, of whichever fleet, and wait until they are gone."""
    account = Account(config)
    try:
        await Remover(account, tell).remove(list(belongings))
    finally:
        await account.close()


async def _traces(account: Account, config: Config) -> list[Traces]:
    finder = Finder(account)
    belongings = await finder.everything()
    own_buckets = await finder.own_buckets()
    stores = {its[tags.FLEET]: its.get(tags.STORE) or f"s3://{name}" for name, its in own_buckets}
    for fleet, store_url in sorted(stores.items()):
        belongings += await finder.data(fleet, store_url, is_own_bucket=True)
    look = await _instances(account)
    stores = {**finder.stores, **look.stores, **stores}
    found = []
    for fleet in sorted({one.fleet for one in belongings}):
        own = in_order([one for one in belongings if one.fleet == fleet])
        created_at = min((one.created_at for one in own if one.created_at), default=0.0)
        heard_at, trouble = await _heard_at(config, stores.get(fleet, ""))
        is_alive = max(heard_at, created_at) > time.time() - LATELY_S
        usd, is_stopped = round(look.usd_per_hour.get(fleet, 0.0), 5), look.states.get(fleet, set()) in SWITCHED_OFF
        found.append(Traces(fleet, tuple(own), created_at, usd, stores.get(fleet, ""), heard_at, is_alive, is_stopped, trouble))
    return found


class _Instances(NamedTuple):
    """What the instances say of their fleets, by name."""

    usd_per_hour: dict[str, float]
    stores: dict[str, str]
    states: dict[str, set[str]]
    """Of those that are not gone."""


async def _instances(account: Account) -> _Instances:
    """What each fleet's instances cost now, where each says that its store is, and in which states they are."""
    quotes = Quotes(account)
    usd_per_hour: dict[str, float] = {}
    stores: dict[str, str] = {}
    states: dict[str, set[str]] = {}
    for one in await instances.described(account, ("tag-key", [tags.FLEET])):
        its = tags.read(one["Tags"])
        stores.setdefault(its[tags.FLEET], its.get(tags.STORE, ""))
        if (state := one["State"]["Name"]) not in instances.GONE:
            states.setdefault(its[tags.FLEET], set()).add(state)
        if state not in {"pending", "running"}:
            continue
        kind = one["InstanceType"]
        price = await (quotes.spot((kind,)) if one.get("InstanceLifecycle") == "spot" else quotes.on_demand(kind))
        usd_per_hour[its[tags.FLEET]] = usd_per_hour.get(its[tags.FLEET], 0.0) + (price.usd_per_hour if price else 0.0)
    return _Instances(usd_per_hour, stores, states)


async def _heard_at(config: Config, store_url: str) -> tuple[float, str]:
    """When a leader last wrote its beacon, 0 where none ever did; and why that cannot be known."""
    if not store_url.startswith("s3://"):
        return 0.0, ""
    try:
        store = Stores(config.store).open(store_url)
        return max([entry.modified_at async for entry in store.entries(layout.CONTROL)], default=0.0), ""
    except NotFound:
        return 0.0, ""
    except TilefleetError as error:
        return 0.0, str(error)
