"""An operation that was over when a new leader took it up, while jobs that an earlier one sent are still on their way."""

from __future__ import annotations

import pytest

from coordinator.core.events import Adopted
from tests.unit.coordinator.driven import Driven, random_record
from tilefleet.records import OperationStatus

MADE = random_record()


@pytest.mark.parametrize("is_told", [True, False], ids=["its status says so", "it was cancelled meanwhile"])
def test_what_an_earlier_leader_sent_is_dropped_and_cleaned_up_after(*, is_told: bool) -> None:
    before = Driven()
    before.adopt(MADE)
    plans, status = {"main": before.saved[0].plan}, OperationStatus(MADE.id, "cancelled", 1) if is_told else None
    here = Driven()
    here.say(Adopted(MADE, plans, status=status, is_cancelled=True))  # type: ignore[arg-type]
    assert MADE.id in here.scheduler.control(here.now, "me", "0").cancelled, "who has a job of it drops it"
    assert here.cleaned == [], "somebody may be writing"
    here.wait(10)
    assert [one.operation for one in here.cleaned] == [MADE.id]
    assert MADE.id in here.scheduler.control(here.now, "me", "0").cancelled, "a message may come back later"
