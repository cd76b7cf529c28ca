"""Records of a fleet in a store: a name is taken once, and what is removed leaves its cost and its number."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from coordinator.cli.fleet_door import as_chosen, as_made
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.records import NodeRecord
from tilefleet import layout
from tilefleet.config import Config, FleetSection, StoreSection
from tilefleet.errors import BadConfig, BadInput, NotFound
from tilefleet.store import Store, Stores, file_url


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Stores(StoreSection()).open(file_url(tmp_path))


async def test_there_is_no_fleet_before_it_is_founded_and_then_the_first_counts(store: Store) -> None:
    nodes = NodeStore(store)
    assert await nodes.fleet() is None
    first = await nodes.found("demo", by="ada")
    assert await nodes.found("demo", by="bob") == first == await nodes.fleet()
    assert len(first.uid) == 16


async def test_the_store_of_another_fleet_is_refused_before_anything_is_done(store: Store) -> None:
    await NodeStore(store).found("demo")
    assert await NodeStore(store).fleet_of("demo") is not None
    config = Config(fleet=FleetSection(name="other", kind="remote"), store=StoreSection(url=store.url))
    for read in (as_chosen, as_made):
        with pytest.raises(
            BadConfig, match=r"is the store of the fleet demo, so it cannot be that of other too; give each its own"
        ):
            await read(config)


async def test_what_up_was_told_last_counts_and_before_it_there_is_no_fleet(store: Store) -> None:
    config = Config(fleet=FleetSection(name="demo", kind="remote"), store=StoreSection(url=store.url))
    assert await as_chosen(config) == config
    with pytest.raises(NotFound, match=r"there is no fleet demo; 'tilefleet fleet up' makes it"):
        await as_made(config)
    record = await NodeStore(store).found("demo")
    await NodeStore(store).save_fleet(replace(record, count=7, coordinator="node"))
    for read in (as_chosen, as_made):
        nodes = (await read(config)).nodes
        assert (nodes.count, nodes.coordinator) == (7, "node")


async def test_a_name_is_taken_by_one_of_many(store: Store) -> None:
    nodes = NodeStore(store)
    taken = await asyncio.gather(*(nodes.claim(NodeRecord("n1", f"i-{i}")) for i in range(8)))
    assert sum(taken) == 1
    assert (await nodes.nodes())[0].machine == f"i-{taken.index(True)}"


async def test_records_come_in_the_order_of_their_numbers_and_as_they_were_saved_last(store: Store) -> None:
    nodes = NodeStore(store)
    for number in (10, 2, 1):
        await nodes.claim(NodeRecord(f"n{number}", ""))
    changed = NodeRecord("n2", "i-2", "ready", host_keys=("ssh-ed25519 AAAA",), phases_s={"boot": 1.5})
    await nodes.save(changed)
    assert [record.name for record in await nodes.nodes()] == ["n1", "n2", "n10"]
    assert (await nodes.nodes())[1] == changed


async def test_what_is_retired_leaves_its_cost_and_its_number(store: Store) -> None:
    nodes = NodeStore(store)
    await nodes.found("demo")
    gone = NodeRecord("n7", "i-7", "ready", launched_at=1000.0, ended_at=4600.0, usd_per_hour=0.5)
    for record in (gone, replace(gone, name="n3")):
        await nodes.claim(record)
    await nodes.retire(await nodes.nodes(), now=1e6)
    fleet = await nodes.fleet()
    assert fleet is not None
    assert (fleet.spent_usd, fleet.next_node) == (1.0, 8)
    assert await nodes.nodes() == []


async def test_a_damaged_record_is_named(store: Store) -> None:
    await store.put(layout.node("n1"), b'{"name": "n1", "machine": 3}')
    with pytest.raises(BadInput, match=r"fleet/nodes/n1\.json is not a NodeRecord"):
        await NodeStore(store).nodes()
