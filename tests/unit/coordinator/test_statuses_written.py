"""How often people are told how far operations are."""

from __future__ import annotations

import pytest

from coordinator.core.commands import WriteStatus
from coordinator.core.events import Adopted, Ticked
from tests.unit.coordinator.driven import Driven, random_record


@pytest.mark.parametrize(("n_operations", "at_most"), [(1, 81), (10, 810), (1000, 3000)])
def test_statuses_of_many_operations_are_written_no_oftener_than_a_bound(n_operations: int, at_most: int) -> None:
    """In twenty seconds."""
    here = Driven()
    here.scheduler.handle_all([Adopted(random_record(f"{number:012}")) for number in range(n_operations)], here.now)
    here.wait(11)
    n_written = 0
    for _ in range(200):
        here.now += 0.1
        for run in here.scheduler.operations.values():
            run.is_dirty = True
        n_written += sum(isinstance(command, WriteStatus) for command in here.scheduler.handle_all([Ticked()], here.now))
    assert 0 < n_written <= at_most
