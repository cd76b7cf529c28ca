"""Attempts that are slow, and those beside them."""

from __future__ import annotations

from tests.unit.coordinator.driven import Driven, random_record


def test_a_straggler_is_doubled_twice_and_any_may_win() -> None:
    for winner in (0, 1, 2):
        here = Driven(n_workers=2)
        made = here.adopt(random_record(n_jobs=6))
        jobs = here.take(6)
        slow = jobs.pop()
        here.hold(slow)
        for job in jobs:
            here.done(job)
        here.wait(20)
        (second,) = here.take()
        assert (second.key, second.attempt) == (slow.key, 1)
        here.wait(60)
        assert here.sent == [], "nobody is slow with it, as nobody has it"
        here.hold(second)
        here.wait(60)
        (third,) = here.take()
        assert (third.key, third.attempt) == (slow.key, 2)
        here.hold(third)
        here.wait(60)
        assert here.sent == [], "it may be larger than the others"
        here.done((slow, second, third)[winner])
        here.work_off()
        assert here.state(made) == "done"


def test_attempts_beside_slow_ones_do_not_count_as_failed() -> None:
    here = Driven(n_workers=2, max_attempts=2)
    made = here.adopt(random_record(n_jobs=6))
    *jobs, slow = here.take(6)
    for job in jobs:
        here.done(job)
    for _ in range(2):
        here.hold(slow)
        here.wait(60)
        (slow,) = here.take()
    here.failed(slow)
    here.wait(5)
    here.work_off()
    assert here.state(made) == "done"
