"""Progress, waits and their ends, the coordinator's statuses and beacons being played."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from tests.unit.client.played import A, B, finish, write_status
from tilefleet import layout
from tilefleet import operation as operation_module
from tilefleet.client import Client
from tilefleet.errors import ErrorInfo, NotFound, TilefleetError, Unreachable
from tilefleet.records import Control, to_json


async def test_progress_yields_each_change_and_believes_the_highest_epoch(client: Client) -> None:
    operation = await client.add(A, A)
    assert await operation.status() is None
    await write_status(client, operation.id, "queued")
    seen = []
    async for status in operation.progress():
        seen.append((status.epoch, status.state))
        if status.state == "queued":
            await write_status(client, operation.id, "running", epoch=2)
            await write_status(client, operation.id, "done", epoch=1)  # a stale leader's word
        else:
            await write_status(client, operation.id, "done", epoch=2)
    assert seen == [(1, "queued"), (2, "running"), (2, "done")]


@pytest.mark.parametrize("code", ["bad_input", "does_not_fit", "operation_failed", "wrong_result"])
async def test_wait_raises_the_operations_own_error(client: Client, code: str) -> None:
    operation = await client.add(A, A)
    await write_status(client, operation.id, "failed", error=ErrorInfo(code, "the sentence"))
    with pytest.raises(TilefleetError, match="the sentence") as caught:
        await operation.wait()
    assert caught.value.code == code
    with pytest.raises(type(caught.value)):
        await operation.result()


async def test_waiting_ends_when_no_coordinator_is_heard(client: Client) -> None:
    operation = await client.add(A, A)
    client.session.silence_s = 0.05
    with pytest.raises(Unreachable, match="no coordinator was heard"):
        await operation.wait()


async def test_beacons_keep_a_wait_alive_whatever_their_clock_says(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(operation_module, "time", SimpleNamespace(monotonic=lambda: now))
    watch = operation_module.Watch(client.session, (await client.add(A, A)).id)
    for at in (1e9, 5.0, 5.1):  # a stand-by whose clock is years behind has taken over
        beacon = Control(epoch=1, at=at, fleet="x", leader="me", version="0")
        await client.session.store.put(layout.control(1), to_json(beacon))
        now += 50
        await watch.check()
    assert await client.control() == beacon
    now += 50
    await watch.check()
    now += 50
    with pytest.raises(Unreachable, match="no coordinator was heard for 60 s"):
        await watch.check()


async def test_a_change_on_this_machine_ends_a_pause(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = await client.multiply(A, B)
    for name in ("FIRST_DELAY_S", "LAST_DELAY_S"):
        monkeypatch.setattr(operation_module, name, 3600.0)
    watch = operation_module.Watch(client.session, operation.id)
    pause = asyncio.create_task(watch.pause())
    await asyncio.sleep(0.05)
    assert not pause.done()
    await finish(client, operation, A @ B)
    async with asyncio.timeout(30):
        await pause


async def test_waiting_ends_when_the_operation_is_deleted(client: Client) -> None:
    operation = await client.add(A, A)
    client.session.silence_s = 5
    await operation.cancel()
    await operation.delete()
    with pytest.raises(NotFound, match="was deleted"):
        await operation.wait()
