"""The control object says how much work is left, also before there is anybody to do it, and what each worker holds."""

from __future__ import annotations

from coordinator.core.workers import MOST_DEPARTED
from tests.unit.coordinator.driven import Driven, random_record
from tilefleet.records import Control


def control(driven: Driven) -> Control:
    return driven.scheduler.control(driven.now, "leader", "0.1.0")


def test_nothing_is_left_where_nothing_is_open() -> None:
    assert control(Driven()).remaining_worker_s == 0


def test_an_operation_that_waits_for_its_first_worker_is_work() -> None:
    driven = Driven(n_workers=0)
    driven.adopt(random_record("0123456789ab", n_jobs=8))
    few = control(driven).remaining_worker_s
    driven.adopt(random_record("0123456789ac", n_jobs=800))
    assert 0 < few < control(driven).remaining_worker_s
    assert control(driven).n_open == 2


def test_the_work_left_shrinks_to_nothing() -> None:
    driven = Driven()
    driven.adopt(random_record(n_jobs=8))
    left = [control(driven).remaining_worker_s]
    while driven.sent:
        driven.done(driven.sent.pop(0))
        left.append(control(driven).remaining_worker_s)
    assert left[0] > 0, "predicted"
    assert left[1:] == sorted(left[1:], reverse=True), "by the jobs that are done, which all take the same here"
    assert left[1] > left[-1] == 0


def test_each_worker_shows_what_it_holds() -> None:
    driven = Driven()
    driven.adopt(random_record())
    job = driven.sent[0]
    driven.beat("w0", "i0", held=((job.operation, job.stage, job.index, job.attempt),))
    (view,) = control(driven).workers
    assert view.jobs == (f"{job.operation} {job.stage}/{job.index}",)
    assert view.held == 1


def test_a_worker_that_had_a_reason_to_leave_is_told_until_it_is_back() -> None:
    driven = Driven(n_workers=0)
    for name, reason in (("w0", ""), ("w1", "EC2 takes this spot instance away (terminate)")):
        driven.hello(name)
        driven.bye(name, reason=reason)
    assert control(driven).departed == {"w1": "EC2 takes this spot instance away (terminate)"}
    driven.hello("w1", "i1")
    assert control(driven).departed == {}


def test_those_that_left_are_not_told_of_without_end() -> None:
    driven = Driven(n_workers=0)
    for number in range(MOST_DEPARTED + 5):
        driven.hello(f"w{number}")
        driven.bye(f"w{number}", reason="rebalance")
    assert len(control(driven).departed) == MOST_DEPARTED
    assert f"w{MOST_DEPARTED + 4}" in control(driven).departed
