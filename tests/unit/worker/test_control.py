"""Who leads, as a worker sees it; and what counts as a sign of life for the node's dead-man switch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tilefleet import heard, layout
from tilefleet.ids import ALPHABET
from tilefleet.records import Control, WorkerView, to_json
from tilefleet.store import Store
from workerd import control
from workerd.control import ControlWatch

CANCELLED = ALPHABET[:12]


@pytest.fixture
def is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control, "FRESH_S", 0.0)
    return (tmp_path / heard.NAME).exists


async def say(store: Store, epoch: int, at: float) -> None:
    await store.put(layout.control(epoch), to_json(Control(epoch, at, "fleet", "leader", "0", (CANCELLED,))))


async def test_a_leader_is_heard_when_its_object_changes(directory_store: Store, is_heard: Callable[[], bool]) -> None:
    watch = ControlWatch(directory_store)
    await watch.refresh()
    assert not is_heard()
    await say(directory_store, 1, 100.0)
    await watch.refresh()
    assert watch.is_cancelled(CANCELLED)
    assert not is_heard(), "it may have lain there for days"
    await watch.refresh()
    assert not is_heard(), "nothing changed"
    await say(directory_store, 1, 102.0)
    await watch.refresh()
    assert is_heard()


async def test_a_new_leader_is_heard_also_when_its_clock_is_behind(directory_store: Store, is_heard: Callable[[], bool]) -> None:
    watch = ControlWatch(directory_store)
    await say(directory_store, 1, 100.0)
    await watch.refresh()
    await say(directory_store, 2, 50.0)
    await watch.refresh()
    assert is_heard()


async def test_who_is_set_aside_learns_why_and_a_successor_of_that_name_is_not(directory_store: Store) -> None:
    watch = ControlWatch(directory_store)
    assert not watch.departed("w1", "i1")
    view = WorkerView("w1", "i2", "0", 1, 1, 1.0, 1.0, 0.0, 0)
    control_ = Control(1, 1.0, "fleet", "leader", "0", departed={"w1": "set aside"})
    await directory_store.put(layout.control(1), to_json(control_))
    await watch.refresh()
    assert watch.departed("w1", "i1") == "set aside"
    assert not watch.departed("w2", "i1")
    watch.control = msgspec.structs.replace(control_, workers=(view,))
    assert not watch.departed("w1", "i2")


def test_without_a_service_manager_there_is_no_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    heard.note_heard()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "absent"))
    heard.note_heard()  # nothing can be written there, and nothing is disturbed
    assert list(tmp_path.iterdir()) == []
