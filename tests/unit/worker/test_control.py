"""Who leads, as a worker sees it; and what counts as a sign of life for the node's dead-man switch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tilefleet import heard, layout
from tilefleet.ids import ALPHABET
from tilefleet.records import Control, to_json
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


def test_without_a_service_manager_there_is_no_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    heard.note_heard()
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "absent"))
    heard.note_heard()  # nothing can be written there, and nothing is disturbed
    assert list(tmp_path.iterdir()) == []
