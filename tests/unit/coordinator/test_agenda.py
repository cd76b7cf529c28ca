"""What waits, by what changed, against what looking at everything says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.agenda import Agenda
from coordinator.core.earliest import Earliest
from coordinator.core.operation_run import NEVER, OperationRun
from coordinator.core.shares import FairShares
from tests.unit.coordinator.driven import random_record

RUNS = [OperationRun(random_record(f"{number:012}"), 0.0, 0.0) for number in range(5)]

whiches = st.integers(0, len(RUNS) - 1)
numbers = st.integers(0, 6).map(float)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), whiches, numbers), st.tuples(st.just("remove"), whiches, numbers),
        st.tuples(st.just("pop"), whiches, numbers),
    )
)  # fmt: skip


@given(steps)
def test_the_least_comes_up_whatever_was_put_and_removed_before(steps: list[tuple[str, int, float]]) -> None:
    queue = Earliest()
    model: dict[OperationRun, float] = {}
    for what, which, number in steps:
        run = RUNS[which]
        if what == "put":
            queue.put(run, number)
            model[run] = min(number, model.get(run, NEVER))
        elif what == "remove" and run in model:
            queue.remove(run)
            del model[run]
        elif what == "pop":
            popped = list(queue.pop_until(number))
            assert [model[run] for run in popped] == sorted(least for least in model.values() if least <= number)
            for run in popped:
                del model[run]
        assert queue.number() == min(model.values(), default=NEVER)
        assert all((run in queue) == (run in model) for run in RUNS)
        first = queue.first()
        assert (first is None) == (not model) and (first is None or model[first] == queue.number())


def test_equals_come_up_in_the_order_in_which_they_were_put() -> None:
    queue = Earliest()
    for run in reversed(RUNS):
        queue.put(run, 1.0)
    assert list(queue.pop_until(1.0)) == RUNS[::-1]


def test_a_status_is_written_again_only_when_it_is_old_and_something_changed() -> None:
    agenda, run = Agenda(FairShares()), OperationRun(random_record("000000000000"), 0.0, 0.0)
    agenda.touch(run)
    assert agenda.to_write(1.0, 10.0) == [run]
    run.is_dirty, run.written = False, 10.0
    agenda.touch(run)
    assert agenda.to_write(1.0, 12.0) == []
    run.is_dirty = True
    agenda.touch(run)
    assert agenda.next_deadline(5.0, NEVER, 12.0) == 15.0
    assert agenda.to_write(5.0, 14.0) == []
    run.written = 14.0  # meanwhile, for another reason
    assert agenda.to_write(5.0, 15.0) == []
    assert agenda.next_deadline(5.0, NEVER, 15.0) == 19.0
    assert agenda.to_write(5.0, 19.0) == [run]


def test_what_changed_and_was_not_touched_is_noticed() -> None:
    agenda, run = Agenda(FairShares()), OperationRun(random_record("000000000000"), 0.0, 0.0)
    agenda.touch(run)
    assert agenda.to_plan(0.0) == [run]
    agenda.validate([run], 0.0)
    run.state = "cancelled"
    with pytest.raises(AssertionError, match="the agenda does not know it"):
        agenda.validate([run], 0.0)
    agenda.touch(run)
    agenda.validate([run], 0.0)
    assert agenda.to_plan(0.0) == []
