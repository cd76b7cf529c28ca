"""What the simulation found, event by event (tests/simulation)."""

from __future__ import annotations

from coordinator.core import patience, stragglers
from coordinator.core.events import DeadLettered
from coordinator.core.plans import Part, Plan
from tests.unit.coordinator.driven import Driven, random_record
from tests.unit.coordinator.examples import record
from tilefleet.facts import BytesFact
from tilefleet.records import Output


def test_a_result_that_was_published_before_the_coordinator_died_is_not_computed_again_for_its_staging_place() -> None:
    first = Driven()
    made = first.adopt(record("multiply", out=Output("file:///out/c.zarr")))
    plans: dict[Part, Plan] = {"main": first.saved[0].plan}
    second = Driven()
    second.adopt(made, plans=plans, done={"publish": (0,)}, facts={"publish": {0: BytesFact(0)}})
    assert second.sent == []
    assert second.state(made) == "done"


def test_what_a_second_attempt_staged_after_the_result_got_its_name_is_removed_too() -> None:
    here = Driven()
    made = here.adopt(record("multiply", out=Output("file:///out/c.zarr")))
    here.work_off()
    assert here.state(made) == "done"
    assert [command.urls for command in here.cleaned] == [(f"file:///out/.c.zarr.partial-{made.id}",)]
    assert here.cleaned[0].keeps_result


def test_a_job_that_hangs_alone_in_its_stage_is_given_to_another_worker_again_and_again() -> None:
    here = Driven(n_workers=2, max_attempts=4)
    made = here.adopt(random_record(n_jobs=1))
    for attempt in range(5):
        (job,) = here.take()
        assert job.attempt == attempt
        here.hold(job)
        here.wait(stragglers.OVERDUE_S * 2**attempt - 10)
        assert here.sent == []
        here.wait(20)
    here.done(here.take()[0])
    here.work_off()
    assert here.state(made) == "done"


def test_a_dead_letter_of_a_job_that_a_live_worker_holds_does_not_fail_the_operation() -> None:
    here = Driven()
    made = here.adopt(random_record(n_jobs=1))
    (job,) = here.take()
    here.hold(job)
    here.say(DeadLettered(job))
    assert here.state(made) == "running"
    here.done(job)
    here.work_off()
    assert here.state(made) == "done"


def test_a_dead_letter_that_is_overtaken_by_its_own_completion_fails_nothing() -> None:
    """Three answers to polls were lost, so the queue gave the message up; one that was sent again meanwhile was done, and its
    completion was late (seed 20261128121316)."""
    here = Driven()
    made = here.adopt(random_record(n_jobs=1))
    (job,) = here.take()
    here.wait(130)
    (again,) = here.take()
    assert again.attempt == job.attempt
    here.say(DeadLettered(job))
    here.done(again)
    here.work_off()
    assert here.state(made) == "done"


def test_two_workers_that_both_hold_an_attempt_do_not_hide_from_each_other_how_long() -> None:
    here = Driven(n_workers=3)
    here.adopt(random_record(n_jobs=1))
    (job,) = here.take()
    for _ in range(int(stragglers.OVERDUE_S / 5) + 3):
        here.hold(job, name="w0", incarnation="i0")
        here.hold(job, name="w1", incarnation="i1")
        here.wait(5)
    assert [again.attempt for again in here.sent] == [1]


def test_a_worker_that_hangs_does_not_keep_the_leftovers_of_an_ended_operation_for_ever() -> None:
    here = Driven(n_workers=2)
    made = here.adopt(random_record(n_jobs=6))
    jobs = here.take(6)
    here.hold(jobs[0])
    for job in jobs[1:]:
        here.done(job)
    here.wait(30)
    here.work_off()
    assert here.state(made) == "done"
    assert here.cleaned == []
    here.wait(patience.LET_GO_AT_MOST_S + 20)
    assert len(here.cleaned) == 1
