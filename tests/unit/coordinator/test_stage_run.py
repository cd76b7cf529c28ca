"""A stage's book-keeping: every job is done once, whatever is said about it and in whatever order."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.operation_run import OperationRun
from coordinator.core.shares import FairShares
from coordinator.core.stage_run import StageRun
from coordinator.core.stages import RandomStage
from coordinator.core.stragglers import is_straggling
from coordinator.core.workers import GATHER_AT_MOST_S, GATHER_S, HEARD_STEP_S, Workers
from tests.unit.coordinator.driven import random_record
from tilefleet.matrix import MatrixRef
from tilefleet.messages import JobTimes, WorkerHello

OUT = MatrixRef("s3://fleet/x", "zarr", (5, 1), "float64", (1, 1), is_ours=True)


def stage_run(n_jobs: int) -> StageRun:
    out = MatrixRef("s3://fleet/x", "zarr", (n_jobs, 1), "float64", (1, 1), is_ours=True)
    return StageRun(RandomStage(name="s", phase="compute", out=out, block=(1, 1), low="0", high="1", seed=1))


steps = st.lists(
    st.tuples(st.sampled_from(["take", "done", "retry", "unsent", "double", "found"]), st.integers(-1, 12)), max_size=60
)


@given(st.integers(0, 12), steps)
def test_no_job_is_lost_whatever_happens(n_jobs: int, what: list[tuple[str, int]]) -> None:
    run, now = stage_run(n_jobs), 0.0
    for step, index in what:
        now += 1
        match step:
            case "take" if run.has_ready(now):
                run.take(now)
            case "done":
                was_done = 0 <= index < n_jobs and run.is_done(index)
                assert run.mark_done(index, now) == (0 <= index < n_jobs and not was_done)
            case "retry" | "double" if index in run.out:
                run.retry(index, now + 2) if step == "retry" else run.double(index, now)
            case "unsent":
                run.return_unsent(index, now + 1)
            case "found":
                run.mark_found([index])
        run.out = {taken: attempt for taken, attempt in run.out.items() if not run.is_done(taken)}
        run.validate()
    for _ in range(200):  # from here on everything that is sent is done
        now += 1
        for index in list(run.out):
            run.mark_done(index, now)
        if run.has_ready(now):
            index, _number = run.take(now)
            assert not run.is_done(index)
    assert run.is_finished


def test_attempts_are_numbered_and_those_nobody_made_are_not() -> None:
    run = stage_run(2)
    assert run.take(0.0) == (0, 0)
    run.return_unsent(0, 1.0)
    assert run.take(0.0) == (1, 0)
    assert not run.has_ready(0.5)
    assert run.next_due() == 1.0
    assert run.take(1.0) == (0, 0)
    assert run.retry(0, 2.0) == 1
    assert run.take(2.0) == (0, 1)
    assert run.newest_attempt(0) == 1
    run.mark_done(0, 3.0)
    assert run.newest_attempt(0) == 0


def test_the_median_waits_for_half_of_the_jobs() -> None:
    run = stage_run(4)
    run.mark_done(0, 1.0)
    run.note_times(JobTimes(total_s=5.0))
    assert run.median_s() is None
    run.mark_done(1, 1.0)
    run.note_times(JobTimes(total_s=7.0))
    assert run.median_s() == 6.0


def test_the_work_left_is_predicted_until_jobs_have_shown_what_they_keep_a_worker_for() -> None:
    run = stage_run(4)
    run.stage = msgspec.structs.replace(run.stage, job_s=10.0)
    assert run.remaining_worker_s == 40.0
    run.mark_done(0, 1.0)
    run.note_times(JobTimes(total_s=9.0, waited_s=3.0, fetched_s=2.0, computed_s=4.0, checked_s=1.0, committed_s=1.0))
    assert run.remaining_worker_s == 15.0, "what is fetched meanwhile keeps nobody"


def test_a_straggler_is_three_times_slower_than_the_median_at_the_end() -> None:
    assert is_straggling(31.0, 10.0, is_tail=True)
    assert not is_straggling(29.0, 10.0, is_tail=True)
    assert not is_straggling(31.0, 10.0, is_tail=False)
    assert not is_straggling(31.0, None, is_tail=True)
    assert not is_straggling(1.9, 0.1, is_tail=True), "a heartbeat's granularity says more"


def test_fair_shares_follow_the_work_and_not_the_number_of_jobs() -> None:
    class Ready(OperationRun):
        """Always has a job of its own price."""

        def __init__(self, name: str, job_s: float) -> None:
            super().__init__(random_record(name), 0.0, 0.0)
            stage = RandomStage(name="s", phase="compute", out=OUT, block=(1, 1), low="0", high="1", seed=1, job_s=job_s)
            self.only = StageRun(stage)

        def ready_run(self, now: float) -> StageRun:
            return self.only

    dear, cheap = Ready("000000000000", 4.0), Ready("000000000001", 1.0)
    shares = FairShares()
    assert list(shares.turns(1, 0.0)) == []
    shares.wait(dear)
    shares.wait(cheap)
    served = [operation.id for operation, _ in shares.turns(50, 0.0)]
    assert served.count(cheap.id) == 4 * served.count(dear.id)
    assert list(shares.turns(0, 0.0)) == []
    assert shares.is_waiting(dear)


def hello(name: str, incarnation: str, memory_bytes: int = 100, flops: float = 1e9) -> WorkerHello:
    return WorkerHello("test", name, incarnation, "0", 1, memory_bytes, flops, 1e9, 2)


def test_workers_come_are_replaced_and_go() -> None:
    workers = Workers()
    assert workers.hello(hello("w", "i1"), 0.0) is None
    assert workers.hello(hello("w", "i1"), 1.0) is None
    replaced = workers.hello(hello("w", "i2"), 2.0)
    assert replaced is not None
    assert replaced.hello.incarnation == "i1"
    assert workers.heard("w", "i1", 3.0) is None, "its old self is not heard any more"
    assert workers.gone("w", "i1") is None
    assert workers.lose_silent(10.0, 9.0) == []
    assert [worker.hello.incarnation for worker in workers.lose_silent(12.0, 9.0)] == ["i2"]
    assert len(workers) == 0


def test_the_silent_are_lost_in_the_order_in_which_they_fell_silent_and_the_others_stay() -> None:
    workers = Workers()
    for name, heard in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 0.0)):
        workers.hello(hello(name, "1"), heard)
    assert workers.lose_silent(9.0, 9.0) == []
    workers.heard("d", "1", 9.0)
    assert workers.lose_silent(9.5, 9.0) == []
    assert [worker.hello.worker for worker in workers.lose_silent(11.5, 9.0)] == ["b", "c"]
    assert [worker.hello.worker for worker in workers.lose_silent(12.5, 9.0)] == ["a"]
    workers.hello(hello("e", "1"), 13.0)
    assert lost(workers, 13.5, 18.5) == ["d"]
    assert lost(workers, 19.5, 22.5) == ["e"]
    assert lost(workers, 23.5, 40.5) == []
    workers.hello(hello("f", "1"), 40.0)
    assert lost(workers, 41.5, 49.5) == ["f"]


def lost(workers: Workers, first: float, last: float) -> list[str]:
    """Who is found silent, asked every second."""
    return [worker.hello.worker for n in range(int(last - first) + 1) for worker in workers.lose_silent(first + n, silence_s=9.0)]


def test_who_stood_still_loses_nobody_it_could_not_hear() -> None:
    workers = Workers()
    workers.hello(hello("a", "1"), 0.0)
    assert workers.lose_silent(1.0, 9.0) == []
    assert workers.lose_silent(60.0, 9.0) == [], "it was stopped: what was said meanwhile waits in the queue"
    assert workers.is_deaf(61.0)
    assert not workers.is_deaf(63.0)
    assert lost(workers, 61.0, 69.0) == []
    assert lost(workers, 70.0, 70.0) == ["a"]


def test_silence_counts_from_when_somebody_could_be_heard() -> None:
    workers = Workers()
    workers.hello(hello("a", "1"), 0.0)
    workers.deaf_at = 8.0
    assert lost(workers, 10.0, 17.0) == []
    assert lost(workers, 17.5, 17.5) == ["a"]


def test_workers_are_shown_by_name_as_they_are_now() -> None:
    workers = Workers()
    workers.hello(hello("b", "1"), 0.0)
    workers.hello(hello("a", "1"), 0.0)
    first = workers.views(1000.0)
    assert [(view.name, view.heard_at, view.jobs) for view in first] == [("a", 1000.0, ()), ("b", 1000.0, ())]
    worker = workers.heard("a", "1", HEARD_STEP_S - 1)
    assert worker is not None
    assert workers.views(1000.0)[0] is first[0], "heard, but nothing that people need to know now"
    worker.held = (("op", "s", 2, 0), ("op", "s", 1, 0))
    workers.heard("b", "1", HEARD_STEP_S)
    shown = workers.views(1000.0)
    assert (shown[0].jobs, shown[0].heard_at) == (("op s/1", "op s/2"), 1000.0 + HEARD_STEP_S - 1)
    assert shown[1].heard_at == 1000.0 + HEARD_STEP_S
    workers.hello(hello("b", "1", memory_bytes=7), HEARD_STEP_S)
    workers.hello(hello("a", "2"), HEARD_STEP_S)
    workers.hello(hello("c", "1"), HEARD_STEP_S)
    assert [(view.name, view.incarnation, view.memory_bytes) for view in workers.views(1000.0)] == [
        ("a", "2", 100), ("b", "1", 7), ("c", "1", 100),
    ]  # fmt: skip
    workers.gone("b", "1")
    workers.lose_silent(20.0, 9.0)
    assert workers.views(1000.0) == ()


def test_the_planner_counts_on_the_smallest_memory_and_the_mean_speed() -> None:
    workers = Workers()
    workers.hello(hello("a", "1", 100, 1e9), 0.0)
    workers.hello(hello("b", "2", 300, 3e9), 0.0)
    facts = workers.facts()
    assert (facts.n_workers, facts.memory_bytes, facts.flops_per_s) == (2, 100, 2e9)
    workers.hello(hello("a", "1", 100, 5e9), 1.0)
    assert workers.facts().flops_per_s == 4e9, "one that learned better says so"


def test_a_fleet_is_gathered_a_moment_after_the_last_but_not_long_after_the_first() -> None:
    workers = Workers()
    workers.hello(hello("a", "1"), 0.0)
    assert workers.gathered_at == GATHER_S
    for index in range(100):
        workers.hello(hello(f"b{index}", f"{index}"), index * 0.1)
    assert workers.gathered_at == GATHER_AT_MOST_S
