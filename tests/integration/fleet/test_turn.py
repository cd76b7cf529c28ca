"""One at a time changes a fleet's machines; who dies is passed over, and the keeper makes way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator.fleet import turn
from coordinator.fleet.records import Turn
from coordinator.fleet.turn import Watching, held, held_if_free
from tilefleet import layout
from tilefleet.config import StoreSection
from tilefleet.errors import Unreachable
from tilefleet.records import from_json, to_json
from tilefleet.store import Store, Stores, file_url


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Stores(StoreSection()).open(file_url(tmp_path))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RENEW_S", 0.02), ("DEAD_S", 0.4), ("LOOK_S", 0.01)):
        monkeypatch.setattr(turn, name, seconds)


def silent(_: str) -> None:
    """Tells nobody."""


async def test_commands_take_turns_in_the_order_in_which_they_came(store: Store) -> None:
    inside: list[str] = []
    told: list[str] = []

    async def work(name: str) -> None:
        async with held(store, name, told.append):
            inside.append(f"{name} begins")
            await asyncio.sleep(0.05)
            inside.append(f"{name} ends")

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b", "c"):
            tasks.create_task(work(name))
    assert [inside[i].split()[0] for i in (0, 2, 4)] == [inside[i].split()[0] for i in (1, 3, 5)]
    assert len(inside) == 6
    assert any("waiting for" in line for line in told)


async def test_the_keeper_makes_way_for_a_command_and_stays_away_while_it_works(store: Store) -> None:
    watching = Watching(store)
    async with held_if_free(store, "keeper", watching, silent) as holding:
        assert holding is not None
        command = asyncio.create_task(_hold_for(store, 0.1))
        await asyncio.wait_for(holding.is_wanted.wait(), 5)
        assert not command.done()
    await asyncio.sleep(0.05)
    async with held_if_free(store, "keeper", watching, silent) as holding:
        assert holding is None
    await command
    async with held_if_free(store, "keeper", watching, silent) as holding:
        assert holding is not None


async def test_who_died_is_passed_over_when_its_turn_stands_still(store: Store) -> None:
    dead = Turn("fleet up on a laptop that was closed", until=4e9)
    await store.put_new(layout.turn(7), to_json(dead))
    told: list[str] = []
    async with held(store, "next", told.append) as holding:
        assert holding.number == 8
    assert told == ["waiting for fleet up on a laptop that was closed, which is changing this fleet's machines"]
    left = [entry.key async for entry in store.entries(layout.FLEET_TURNS)]
    assert left == [layout.turn(8)], "what is over is removed, and the number stays used"


async def test_a_turn_that_was_let_go_or_is_of_long_ago_is_nobodys(store: Store) -> None:
    await store.put_new(layout.turn(1), to_json(Turn("yesterday", until=1.0)))
    await store.put_new(layout.turn(2), to_json(Turn("let go", until=0.0)))
    async with held_if_free(store, "keeper", Watching(store), silent) as holding:
        assert holding is not None


async def test_who_waits_too_long_is_told_for_whom(store: Store) -> None:
    async with held(store, "fleet sync on another machine", silent):
        with pytest.raises(Unreachable, match="fleet sync on another machine has been changing this fleet"):
            async with held(store, "b", silent, wait_s=0.1):
                raise AssertionError("two at once")


async def test_who_lost_its_turn_is_stopped_in_the_middle(store: Store) -> None:
    with pytest.raises(Unreachable, match="turn was lost"):
        async with held(store, "slept", silent) as holding:
            await asyncio.sleep(0.05)
            await _pass_over(store, holding.number)
            await asyncio.sleep(10)


async def test_who_renews_its_turn_just_as_it_is_passed_over_is_stopped_too(store: Store) -> None:
    with pytest.raises(Unreachable, match="turn was lost"):
        async with held(store, "slept", silent) as holding:
            written = bytes(await store.get(layout.turn(holding.number)))
            await _pass_over(store, holding.number)
            await store.put(layout.turn(holding.number), written)
            await asyncio.sleep(10)


async def _pass_over(store: Store, number: int) -> None:
    """As the next one does who takes a turn for dead."""
    await store.put_new(layout.turn(number + 1), to_json(Turn("the next", until=4e9, is_held=True)))
    await store.delete([layout.turn(number)])


async def test_errors_and_cancels_of_the_work_itself_pass_through_and_let_go(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with held(store, "a", silent):
            raise ZeroDivisionError
    waiting = asyncio.create_task(_hold_for(store, 10))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    keys = [entry.key async for entry in store.entries(layout.FLEET_TURNS)]
    turns = [from_json(bytes(await store.get(key)), Turn, key) for key in keys]
    assert [each.until for each in turns] == [0.0]


async def _hold_for(store: Store, seconds: float) -> None:
    async with held(store, "command", silent):
        await asyncio.sleep(seconds)
