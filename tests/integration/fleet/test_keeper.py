"""The keeper replaces what is lost, scales with the work, keeps to the budget, makes way, and disturbs nobody when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from coordinator.fleet import keeper, turn
from coordinator.fleet.convergence import converge, desired_of
from coordinator.fleet.keeper import Keeper
from coordinator.fleet.turn import held
from tests.integration.fleet.simulated import TICK_S, World, node_records
from tilefleet.config import Config, CoordinatorSection, FleetSection, StoreSection
from tilefleet.fleet_config import NodesSection
from tilefleet.quantities import Duration
from tilefleet.store import Stores, file_url

NODES = NodesSection(
    provider="ec2", count=2, boot=Duration("2 s"), hello=Duration("1 s"), replace_after=Duration("1 s"), idle=Duration("500 ms")
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RENEW_S", 0.05), ("LOOK_S", 0.02)):
        monkeypatch.setattr(turn, name, seconds)


@pytest.fixture
def a_world(tmp_path: Path) -> Callable[[NodesSection], World]:
    (tmp_path / "store").mkdir()

    def make(nodes: NodesSection) -> World:
        config = Config(
            fleet=FleetSection(name="test", kind="remote"), coordinator=CoordinatorSection(beacon=Duration("100 ms")),
            nodes=nodes, store=StoreSection(url=file_url(tmp_path / "store")),
        )  # fmt: skip
        world = World(config, Stores(config.store).open(config.store.url))
        world.fleet.poll_s = TICK_S
        return world

    return make


@asynccontextmanager
async def kept(world: World) -> AsyncIterator[None]:
    """A fleet that is up, with a leader and a keeper."""
    await world.fleet.nodes.found("test")
    leading = asyncio.create_task(world.lead())
    try:
        if not world.fleet.config.nodes.max_nodes:
            await converge(world.fleet, desired_of(world.fleet), watch=world.watch, tell=world.tell)
        keeping = asyncio.create_task(_keep(world))
        yield
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


async def _keep(world: World) -> None:
    while True:
        record = await world.fleet.nodes.fleet()
        if record is not None:
            await Keeper(world.fleet, record, TICK_S).run()
        await asyncio.sleep(TICK_S)


async def until(world: World, is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        await world.until(is_so)


async def test_a_node_that_is_taken_away_is_replaced(a_world: Callable[[NodesSection], World]) -> None:
    world = a_world(NODES)
    async with kept(world):
        world.lose("n1")
        await until(world, lambda: sorted(world.running) == ["n2", "n3"])


async def test_a_silent_node_is_set_up_again(a_world: Callable[[NodesSection], World]) -> None:
    world = a_world(NODES)
    async with kept(world):
        del world.running["n2"]
        await until(world, lambda: "n2" in world.running)
        assert len(world.machines) == 2


async def test_nodes_come_with_the_work_and_go_some_time_after_it(a_world: Callable[[NodesSection], World]) -> None:
    world = a_world(replace(NODES, max_nodes=4, finish_in=Duration("100 s")))
    async with kept(world):
        world.n_open, world.work_s = 1, 250.0
        await until(world, lambda: len(world.running) == 3)
        world.n_open, world.work_s = 0, 0.0
        await until(world, lambda: not world.running)
        await until(world, lambda: all(machine.state == "gone" for machine in world.machines.values()))
        drained = [node for call, node in world.calls if call == "drain"]
        assert sorted(drained) == ["n1", "n2", "n3"]


async def test_the_budget_ends_all_of_them_the_coordinator_last(a_world: Callable[[NodesSection], World]) -> None:
    world = a_world(replace(NODES, count=2, coordinator="node", max_cost_usd=5.0))
    async with kept(world):
        record = await world.fleet.nodes.fleet()
        assert record is not None
        await world.fleet.nodes.save_fleet(replace(record, spent_usd=5.0))
        await until(world, lambda: all(machine.state == "gone" for machine in world.machines.values()))
        ended = [node for call, node in world.calls if call == "terminate"]
        assert ended[-1] == "n1"
        assert (await node_records(world))["n1"].role == "coordinator"


async def test_it_makes_way_for_a_command_in_the_middle_of_its_work(a_world: Callable[[NodesSection], World]) -> None:
    world = a_world(NODES)
    async with kept(world):
        world.installer.set_up_s = 300.0
        world.lose("n1")
        await until(world, lambda: ("set up", "n3") in world.calls)
        async with asyncio.timeout(60), held(world.store, "fleet up", world.tell):
            n_calls = len(world.calls)
            world.installer.set_up_s = TICK_S
            await asyncio.sleep(5 * TICK_S)
            assert len(world.calls) == n_calls, "hands off"
        await until(world, lambda: sorted(world.running) == ["n2", "n3"])


async def test_it_leaves_a_fleet_that_was_taken_down_alone(a_world: Callable[[NodesSection], World]) -> None:
    world = a_world(NODES)
    async with kept(world):
        async with held(world.store, "fleet down", world.tell):
            await world.store.delete_prefix("fleet/nodes")
            await world.store.delete(["fleet/fleet.json"])
            for machine in list(world.machines.values()):
                world.put(replace(machine, state="gone"))
            world.calls.clear()
        await asyncio.sleep(10 * TICK_S)
        assert world.calls == []


async def test_its_failures_are_logged_and_it_goes_on(
    a_world: Callable[[NodesSection], World], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = a_world(NODES)
    monkeypatch.setattr(keeper, "LEAST_PAUSE_S", 0.01)
    monkeypatch.setattr(keeper, "EVERY_S", TICK_S)
    opened = [RuntimeError("a bug"), None]

    @asynccontextmanager
    async def open_it(*_: object, **__: object) -> AsyncIterator[object]:
        if opened and (error := opened.pop(0)) is not None:
            raise error
        yield world.fleet

    monkeypatch.setattr(keeper, "opened", open_it)
    await world.fleet.nodes.found("test")
    leading = asyncio.create_task(world.lead())
    keeping = asyncio.create_task(keeper.keep(world.fleet.config, world.store))
    await until(world, lambda: sorted(world.running) == ["n1", "n2"])
    for task in (keeping, leading):
        task.cancel()
    await asyncio.gather(keeping, leading, return_exceptions=True)
    assert "keeper_met_a_bug" in capsys.readouterr().out


async def test_while_there_is_nothing_to_do_no_command_waits_for_it(a_world: Callable[[NodesSection], World]) -> None:
    world = a_world(NODES)
    async with kept(world):
        world.told.clear()
        await asyncio.sleep(5 * TICK_S)
        async with held(world.store, "fleet sync", world.tell) as holding:
            assert holding.number == 1, "it never asked for a turn"
        assert world.told == []
