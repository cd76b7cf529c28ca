"""A coordinator that could not hear its workers for a while: its queue was away, or it was stopped itself."""

from __future__ import annotations

from coordinator.core.events import Deafened, Ticked
from tests.unit.coordinator.driven import Driven, random_record


def test_who_cannot_be_heard_is_neither_lost_nor_missed() -> None:
    here = Driven(no_worker_timeout_s=100.0)
    made = here.adopt(random_record(n_jobs=1))
    here.hold(here.take()[0])
    for _ in range(20):
        here.say(Deafened())
        here.wait(10, is_alive=False)
    assert (here.state(made), len(here.scheduler.workers), here.sent) == ("running", 1, [])
    here.wait(20, is_alive=False)
    assert (len(here.scheduler.workers), len(here.sent)) == (0, 1), "heard of nobody since it could be heard again"
    for _ in range(20):
        here.say(Deafened())
        here.wait(90, is_alive=False)
    assert here.state(made) == "running"
    here.wait(20, is_alive=False)
    assert here.state(made) == "failed"


def test_a_coordinator_that_stood_still_takes_nobody_for_lost_and_no_job_for_slow() -> None:
    here = Driven(n_workers=2)
    here.adopt(random_record(n_jobs=6))
    jobs = here.take(6)
    here.hold(jobs[0])
    here.hold(jobs[1], name="w1", incarnation="i1")
    for job in jobs[2:]:
        here.done(job)
    here.now += 60
    here.say(Ticked())  # before anything that was said meanwhile
    assert (len(here.scheduler.workers), here.sent) == (2, [])
    here.wait(10)
    assert [job.key for job in here.take(2)] == [job.key for job in jobs[:2]], "slow, as they do not end now either"
