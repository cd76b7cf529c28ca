"""Who stands by watches, and says so once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coordinator.runtime.leadership import SILENT_BEATS, Leader, resign, take_lead
from tilefleet import layout
from tilefleet.config import StoreSection
from tilefleet.records import Control, to_json
from tilefleet.store import Store, Stores, file_url

BEAT_S = 0.1


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    """One in which a coordinator of another machine leads."""
    made = Stores(StoreSection()).open(file_url(tmp_path))
    await made.put_new(layout.leader(1), to_json(Leader("elsewhere", 1, 0.0)))
    await beat(made, 0)
    return made


def control(at: float, epoch: int = 1) -> Control:
    return Control(epoch=epoch, at=at, fleet="test", leader="elsewhere:1", version="0.1.0")


async def beat(store: Store, at: float, epoch: int = 1) -> None:
    await store.put(layout.control(epoch), to_json(control(at, epoch)))


async def test_a_stand_by_says_so_once_and_waits_as_long_as_the_beacon_changes(store: Store) -> None:
    with capture_logs() as logged:
        waiting = asyncio.create_task(take_lead(store, BEAT_S, asyncio.Event()))
        for at in range(1, SILENT_BEATS + 3):
            await beat(store, at)
            await asyncio.sleep(BEAT_S)
        assert not waiting.done()
        assert await waiting == 2, "the beacon is silent now"
    assert [line["event"] for line in logged].count("standing_by") == 1


async def test_who_resigns_is_succeeded_and_a_third_is_stood_by_for_anew(store: Store) -> None:
    with capture_logs() as logged:
        waiting = asyncio.create_task(take_lead(store, BEAT_S, asyncio.Event()))
        await asyncio.sleep(2 * BEAT_S)
        await store.put_new(layout.leader(2), to_json(Leader("elsewhere", 2, 0.0)))
        await beat(store, 1, epoch=2)
        await asyncio.sleep(2 * BEAT_S)
        assert not waiting.done()
        await resign(store, control(2, epoch=2))
        assert await waiting == 3
    assert [line["epoch"] for line in logged if line["event"] == "standing_by"] == [1, 2]


async def test_a_stop_ends_the_wait(store: Store) -> None:
    stopping = asyncio.Event()
    waiting = asyncio.create_task(take_lead(store, 60.0, stopping))
    await asyncio.sleep(BEAT_S)
    stopping.set()
    assert await waiting is None
