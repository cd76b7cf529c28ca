"""The scheduler event by event."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from coordinator.core.events import Adopted, CancelAsked, DeadLettered, EffectFailed, QueueLost, SendFailed, Ticked
from coordinator.core.plans import Part, Plan
from tests.unit.coordinator.driven import Driven, random_record
from tests.unit.coordinator.examples import matrix, record, verification
from tilefleet.errors import ErrorInfo
from tilefleet.facts import BytesFact, CheckFacts, CsvFacts
from tilefleet.matrix import Operand
from tilefleet.messages import Job
from tilefleet.records import OperationRecord, OperationStatus


def test_an_operation_from_adoption_to_the_end() -> None:
    here = Driven()
    made = here.adopt(random_record(n_jobs=8))
    assert len(here.sent) == 3, "the window: three for each worker"
    here.work_off()
    status = here.statuses[made.id]
    assert (status.state, status.totals.jobs, status.totals.attempts) == ("done", 9, 9)
    assert (status.totals.bytes_read, status.totals.bytes_written, status.totals.flops) == (27, 18, 9)
    assert [stage.n_done for stage in status.stages] == [8, 1]
    assert [command.keeps_result for command in here.cleaned] == [True]
    assert here.scheduler.operations == {}


def test_completions_heard_twice_late_or_of_nothing_count_once_or_not_at_all() -> None:
    here = Driven()
    made = here.adopt(random_record(n_jobs=4))
    job = here.take()[0]
    strangers = [
        msgspec.structs.replace(job, index=99), msgspec.structs.replace(job, stage="nonsense"),
        msgspec.structs.replace(job, operation="nobody"),
    ]  # fmt: skip
    for each in (job, job, *strangers):
        here.done(each)
        here.failed(each)
    assert here.scheduler.operations[made.id].totals.jobs == 1
    here.work_off()
    assert here.statuses[made.id].totals.jobs == 5
    here.done(job)
    here.failed(job, is_retryable=False)
    assert here.state(made) == "done"


def test_a_failed_attempt_is_made_again_later_and_later_and_then_given_up_by_name() -> None:
    here = Driven(max_attempts=4)
    made = here.adopt(random_record(n_jobs=1))
    waits = []
    for attempt in range(4):
        while not here.sent:
            here.wait(0.05)
        (job,) = here.take()
        assert job.attempt == attempt
        waits.append(here.now)
        here.failed(job)
        here.failed(job)  # a repeated failure counts once
    gaps = [after - before for before, after in pairwise(waits)]
    assert gaps == sorted(gaps)
    error = here.statuses[made.id].error
    assert error is not None
    assert "job random[0] of operation 0123456789ab was given up after 4 attempts: it did not work" in error.sentence
    [buried] = here.buried
    assert (buried.job.index, buried.job.attempt, buried.reason) == (0, 3, error.sentence)


def test_what_a_worker_had_too_little_memory_for_is_tried_in_smaller_parts() -> None:
    here = Driven(max_attempts=4)
    made = here.adopt(random_record(n_jobs=1))
    found = []
    for _ in range(3):
        while not here.sent:
            here.wait(0.05)
        (job,) = here.take()
        found.append(job.halvings)
        here.failed(job, code="does_not_fit")
    while not here.sent:
        here.wait(0.05)
    found.append(here.sent[0].halvings)
    here.done(*here.take())
    here.done(*here.take())
    assert found == [0, 1, 2, 3]
    assert here.statuses[made.id].state == "done"


def test_what_takes_one_worker_after_the_other_with_it_is_tried_in_smaller_parts() -> None:
    here = Driven(max_attempts=4)
    here.adopt(random_record(n_jobs=1))
    found = []
    for life in range(4):
        (job,) = here.take()
        found.append(job.halvings)
        here.hold(job, name="w0", incarnation=f"i{life}")
        here.hello("w0", f"i{life + 1}")
    assert found == [0, 0, 1, 2], "one that dies may die of anything"


def test_what_no_other_attempt_can_mend_fails_the_operation_at_once() -> None:
    here = Driven()
    made = here.adopt(random_record())
    here.failed(here.take()[0], is_retryable=False, code="bad_input")
    assert here.statuses[made.id].error == ErrorInfo("bad_input", "it did not work")


def test_what_a_lost_worker_held_is_sent_again_at_once() -> None:
    here = Driven(n_workers=2)
    here.adopt(random_record(n_jobs=20))
    jobs = here.take(6)
    here.hold(*jobs[:2], name="w0")
    here.hold(*jobs[2:4], name="w1", incarnation="i1")
    here.hello("w1", "i2")  # it died and came back
    assert [(job.index, job.attempt) for job in here.take(2)] == [(jobs[2].index, 1), (jobs[3].index, 1)]
    here.bye()
    assert here.sent == [], "the window is that of one worker now, and four attempts are out"
    here.wait(16, is_alive=False)
    assert len(here.scheduler.workers) == 0, "a worker not heard for 15 s is lost"


def test_an_attempt_nobody_holds_is_sent_again_without_counting() -> None:
    here = Driven()
    here.adopt(random_record(n_jobs=1))
    (job,) = here.take()
    here.wait(119)
    assert here.sent == []
    here.wait(5)
    assert here.take() == [job]


def test_a_small_operation_does_not_wait_behind_a_large_one() -> None:
    here = Driven()
    here.adopt(random_record("000000000000", n_jobs=500))
    for _ in range(20):
        here.done(here.take()[0])
    small = here.adopt(random_record("000000000001", n_jobs=3))
    for _ in range(20):
        here.done(here.take()[0])
        here.wait(0.01)
    assert here.state(small) == "done"
    assert here.statuses["000000000000"].state == "running"


def test_a_cancelled_operation_gives_its_place_to_others_at_once() -> None:
    here = Driven()
    first, second = here.adopt(random_record("000000000000", 50)), here.adopt(random_record("000000000001", 50))
    here.hold(*here.take(3))
    here.sent.clear()
    here.say(CancelAsked(first.id))
    here.say(CancelAsked(first.id))
    assert here.state(first) == "cancelled"
    assert {job.operation for job in here.sent} <= {second.id}
    assert first.id in here.scheduler.control(here.now, "me", "0").cancelled
    here.wait(10)
    assert first.id in here.scheduler.operations, "a worker still holds jobs of it"
    here.beat()
    here.wait(3)
    assert first.id not in here.scheduler.operations


def test_cancelled_before_it_was_taken_up() -> None:
    here = Driven()
    made = here.adopt(random_record(), is_cancelled=True)
    assert here.state(made) == "cancelled"
    assert here.sent == []
    assert len(here.cleaned) == 1


def test_cancelled_by_then_the_tiles_of_an_earlier_leader_are_removed_too() -> None:
    earlier = Driven()
    made = earlier.adopt(record("multiply", out=None))
    main = earlier.saved[0].plan
    here = Driven()
    here.adopt(made, plans={"main": main}, is_cancelled=True)
    here.wait(20)
    assert here.cleaned[0].urls == ("file:///store/matrices/0123456789ab",)
    assert not here.cleaned[0].keeps_result


def test_an_operation_that_had_ended_is_only_cleaned_up_after() -> None:
    here = Driven()
    made = random_record()
    here.adopt(made, status=OperationStatus(made.id, "done", 1))
    assert (here.sent, here.statuses, len(here.cleaned)) == ([], {}, 1)
    assert here.cleaned[0].keeps_result


def test_a_second_adoption_changes_nothing() -> None:
    here = Driven()
    made = here.adopt(random_record())
    here.adopt(made, is_cancelled=True)
    assert here.state(made) == "running"


def test_a_dead_letter_is_a_lost_attempt_unless_it_was_overtaken() -> None:
    here = Driven(max_attempts=3)
    made = here.adopt(random_record())
    (job,) = here.take()
    here.failed(job)
    here.wait(1)
    here.say(DeadLettered(job))
    here.say(DeadLettered(msgspec.structs.replace(job, attempt=1, epoch=0)))
    assert here.state(made) == "running"
    here.say(DeadLettered(msgspec.structs.replace(job, attempt=1)))
    assert here.state(made) == "running"
    here.say(DeadLettered(msgspec.structs.replace(job, attempt=2)))
    error = here.statuses[made.id].error
    assert error is not None
    assert f"job random[{job.index}]" in error.sentence


def test_jobs_that_did_not_get_into_the_queue_or_were_in_a_lost_one_are_sent_again_uncounted() -> None:
    here = Driven()
    here.adopt(random_record(n_jobs=3))
    jobs = here.take(3)
    here.say(SendFailed(tuple(jobs)))
    here.wait(1.5)
    assert sorted(here.sent, key=lambda job: job.index) == jobs
    here.hold(jobs[0])
    here.sent.clear()
    here.say(QueueLost())
    assert {job.index for job in here.sent} == {jobs[1].index, jobs[2].index}
    assert all(job.attempt == 0 for job in here.sent)


def test_a_refused_effect_fails_its_operation() -> None:
    here = Driven()
    made = here.adopt(random_record())
    here.say(EffectFailed(made.id, ErrorInfo("not_allowed", "no")))
    assert here.statuses[made.id].error == ErrorInfo("not_allowed", "no")
    here.say(EffectFailed("nobody", ErrorInfo("not_allowed", "no")))


def test_without_workers_it_says_so_and_fails_after_the_timeout_and_not_before() -> None:
    here = Driven(n_workers=0, no_worker_timeout_s=100.0)
    made = here.adopt(random_record())
    assert (here.state(made), here.statuses[made.id].note) == ("queued", "waiting for a worker")
    here.wait(90)
    here.hello()
    here.wait(1)
    assert (here.state(made), here.statuses[made.id].note) == ("running", "")
    here.bye()
    here.wait(1)
    assert here.statuses[made.id].note == "waiting for a worker"
    here.wait(98)
    assert here.state(made) == "running"
    here.wait(5)
    error = here.statuses[made.id].error
    assert error is not None
    assert "no worker was heard for 100 s" in error.sentence


def test_workers_that_come_one_by_one_do_not_put_the_plan_off_for_ever() -> None:
    here = Driven(n_workers=0)
    here.say(Adopted(random_record()))
    for index in range(100):
        here.hello(f"w{index}")
        here.wait(0.1)
        if here.saved:
            break
    assert 20 <= index <= 31, "three seconds after the first"


def test_too_little_memory_is_said_by_the_plan() -> None:
    here = Driven(n_workers=0)
    here.hello(memory_bytes=1 << 20)
    made = here.adopt(record("multiply"))
    error = here.statuses[made.id].error
    assert error is not None
    assert (error.code, "raise worker.memory" in error.sentence) == ("does_not_fit", True)


@pytest.mark.parametrize(
    ("facts", "state"),
    [(CheckFacts(worst=0.3), "done"), (CheckFacts(worst=7.0), "failed"), (CheckFacts(mismatches=2, first_row=5), "failed")],
)
def test_the_verdict_of_a_verification(facts: CheckFacts, state: str) -> None:
    here = Driven()
    made = here.adopt(verification(record("multiply"), (1000, 800)))
    while here.sent:
        (job,) = here.take()
        here.done(job, facts=facts if job.stage == "check" else None)
        here.wait(0.3)
    status = here.statuses[made.id]
    assert status.state == state
    if state == "done":
        assert "is correct" in status.verdict
    else:
        assert status.error is not None
        assert status.error.code == "wrong_result"
        assert ("row 5" in status.error.sentence) == (facts.first_row == 5)


def csv_record() -> OperationRecord:
    return record("convert", ("csv.gz", ""))


@pytest.mark.parametrize("n_parts", [0, 1, 2, 3])
@pytest.mark.parametrize("is_done", [False, True])
def test_it_is_resumed_in_every_part(n_parts: int, is_done: bool) -> None:
    def facts(job: Job) -> BytesFact | CsvFacts | None:
        if job.stage == "gunzip_a":
            return BytesFact(1000 * 800 * 8)
        return CsvFacts((500,), 800, "float64") if job.stage == "scan_a" else None

    def play(here: Driven, n_saved: int) -> None:
        while here.sent and (len(here.saved) < n_saved or not n_saved):
            (job,) = here.take()
            here.done(job, facts=facts(job))
            here.wait(0.3)

    first = Driven()
    made = first.adopt(csv_record())
    play(first, n_parts)
    plans: dict[Part, Plan] = {saved.plan.part: saved.plan for saved in first.saved[:n_parts]}
    latest = first.saved[n_parts - 1].plan if n_parts else None
    stages = [stage for stage in latest.stages if is_done or stage.name.startswith("parse")] if latest else []
    done = {stage.name: tuple(range(stage.n_jobs)) for stage in stages}
    found: dict[str, dict[int, Any]] = {
        "gunzip_a": {0: BytesFact(1000 * 800 * 8)},
        "scan_a": dict.fromkeys(range(2), CsvFacts((500,), 800, "float64")),
    }
    known = {name: found[name] for name in done if name in found}
    second = Driven()
    second.adopt(made, plans=plans, done=done, facts=known)
    sent = {job.stage for job in second.sent}
    assert not sent & set(done), "what is done is not done again"
    play(second, 0)
    assert second.state(made) == "done"
    assert second.statuses[made.id].result is not None


def test_an_empty_result_needs_no_jobs_but_its_publication() -> None:
    here = Driven()
    a, b = matrix("a", (0, 7), "zarr"), matrix("b", (7, 5), "zarr")
    made = here.adopt(OperationRecord("0123456789ab", "multiply", Operand(a), Operand(b)))
    assert [job.stage for job in here.sent] == ["publish"]
    here.work_off()
    assert here.state(made) == "done"


def test_the_list_of_ended_operations_is_bounded() -> None:
    here = Driven()
    for index in range(300):
        here.adopt(random_record(f"{index:012d}"), is_cancelled=True)
    cancelled = here.scheduler.control(here.now, "me", "0").cancelled
    assert len(cancelled) == 200
    assert "000000000299" in cancelled


def test_a_full_window_with_a_retry_waiting_does_not_spin() -> None:
    here = Driven()
    here.adopt(random_record(n_jobs=50))
    jobs = here.take(3)
    here.hold(*jobs)
    here.say(QueueLost())
    here.failed(jobs[0])
    here.wait(0.2)
    before = here.n_handled
    here.wait(10)
    assert here.n_handled - before < 100


def test_idle_costs_a_tick_a_second() -> None:
    here = Driven(n_workers=0)
    here.say(Ticked())
    before = here.n_handled
    here.wait(600)
    assert here.n_handled - before <= 601
    here.adopt(random_record())  # an operation that waits for a worker
    before = here.n_handled
    here.wait(60)
    assert here.n_handled - before <= 61


def test_a_running_operation_costs_few_looks_while_nothing_happens() -> None:
    here = Driven()
    here.adopt(random_record(n_jobs=50))
    here.hold(*here.take(3))
    before = here.n_handled
    here.wait(60)
    assert here.n_handled - before <= 60 * 3 + 5, "a heartbeat, a housekeeping and a status each second"
