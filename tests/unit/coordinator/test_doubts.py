"""Workers whose results do not pass their check: who is set aside, and who is not."""

from __future__ import annotations

from coordinator.core.doubts import MOST_WRONG, WINDOW_S
from tests.unit.coordinator.driven import Driven, random_record
from tilefleet.records import Control

WRONG = "wrong_result"


def control(driven: Driven) -> Control:
    return driven.scheduler.control(driven.now, "leader", "0.1.0")


def names(driven: Driven) -> set[str]:
    return {view.name for view in control(driven).workers}


def made(n_workers: int) -> Driven:
    driven = Driven(n_workers, max_attempts=100)
    driven.adopt(random_record(n_jobs=40))
    return driven


def is_wrong(driven: Driven, count: int, number: int = 0) -> None:
    """So many results of a worker do not pass; each job is another."""
    for _ in range(count):
        driven.failed(driven.take()[0], code=WRONG, name=f"w{number}", incarnation=f"i{number}")
        driven.wait(1.0)


def test_who_is_wrong_again_and_again_gets_no_more_work() -> None:
    driven = made(3)
    is_wrong(driven, MOST_WRONG - 1)
    assert names(driven) == {"w0", "w1", "w2"}
    is_wrong(driven, 1)
    assert names(driven) == {"w1", "w2"}
    assert "3 of its results did not pass their check" in control(driven).departed["w0"]
    driven.hello("w0", "i0")
    assert names(driven) == {"w1", "w2"}, "saying hello again does not help"
    driven.hello("w0", "another")
    assert names(driven) == {"w0", "w1", "w2"}, "a restart does"
    assert control(driven).departed == {}


def test_its_jobs_are_done_elsewhere_and_the_report_says_why() -> None:
    driven = made(2)
    held = driven.take()[0]
    driven.hold(held)
    is_wrong(driven, MOST_WRONG)
    assert held not in driven.sent
    driven.work_off()  # by the other, the one that was held too
    (status,) = driven.statuses.values()
    assert status.state == "done"
    assert status.wrong_results == {"w0": MOST_WRONG}


def test_the_last_worker_stays() -> None:
    driven = made(1)
    is_wrong(driven, 10)
    assert names(driven) == {"w0"}


def test_what_all_give_is_no_machines_fault() -> None:
    driven = made(2)
    for _ in range(MOST_WRONG + 2):
        is_wrong(driven, 1, 0)
        is_wrong(driven, 1, 1)
    assert names(driven) == {"w0", "w1"}


def test_what_was_long_ago_is_forgotten() -> None:
    driven = made(2)
    is_wrong(driven, MOST_WRONG - 1)
    driven.wait(WINDOW_S)
    is_wrong(driven, MOST_WRONG - 1)
    assert names(driven) == {"w0", "w1"}


def test_a_message_that_comes_twice_counts_once() -> None:
    driven = made(2)
    job = driven.take()[0]
    for _ in range(MOST_WRONG + 1):
        driven.failed(job, code=WRONG)
    assert names(driven) == {"w0", "w1"}


def test_other_failures_are_no_doubt() -> None:
    driven = made(2)
    for _ in range(10):
        driven.failed(driven.take()[0])
        driven.wait(1.0)
    assert names(driven) == {"w0", "w1"}


def test_what_one_that_is_set_aside_still_fails_costs_no_attempt() -> None:
    driven = Driven(2, max_attempts=4)
    record = driven.adopt(random_record(n_jobs=1))
    for _ in range(10):  # the job always gets to the same worker, which learns late that it is set aside
        while not driven.sent:
            driven.wait(0.5)
        driven.failed(driven.take()[0], code=WRONG)
    assert names(driven) == {"w1"}
    while not driven.sent:
        driven.wait(0.5)
    driven.work_off()
    assert driven.state(record) == "done"


def test_what_one_holds_when_it_is_set_aside_costs_no_attempt() -> None:
    driven = Driven(2, max_attempts=4)
    record = driven.adopt(random_record(n_jobs=2))
    wrong, held = driven.take(2)
    driven.hold(held)
    for _ in range(3):
        driven.failed(wrong, code=WRONG)
        while not driven.sent and names(driven) != {"w1"}:
            driven.wait(0.5)
        wrong = driven.take()[0] if names(driven) != {"w1"} else wrong
    assert names(driven) == {"w1"}
    driven.wait(2)
    again = [job for job in driven.sent if job.index == held.index]
    assert [job.attempt for job in again] == [0]
    driven.work_off()
    assert driven.state(record) == "done"
