"""An operation's sums: what jobs say is added up, and a status keeps what it was given."""

from __future__ import annotations

import msgspec

from coordinator.core.totals import RunningTotals
from tilefleet.facts import CheckFacts
from tilefleet.messages import JobDone, JobTimes
from tilefleet.records import Totals


def done(times: JobTimes, worst: float | None = None, facts: CheckFacts | None = None) -> JobDone:
    return JobDone("test", "w", "i", "0123456789ab", "s", 0, 0, times, worst, facts)


def test_the_sums_have_the_fields_of_those_that_people_read() -> None:
    running, read = msgspec.structs.fields(RunningTotals), msgspec.structs.fields(Totals)
    assert [(field.name, field.default) for field in running] == [(field.name, field.default) for field in read]
    assert RunningTotals().frozen() == Totals()


def test_jobs_are_added_up_and_the_worst_of_their_checks_is_kept() -> None:
    totals = RunningTotals()
    totals.add(done(JobTimes(9.0, 1.0, 2.0, 3.0, 0.5, 0.25, 10, 20, 30)))
    first = totals.frozen()
    totals.add(done(JobTimes(9.0, 1.0, 2.0, 3.0, 0.5, 0.25, 10, 20, 30), 0.2, CheckFacts(0.1, 4)))
    totals.add(done(JobTimes(), 0.1, CheckFacts(0.1, 3)))
    totals.attempts += 1
    assert first == Totals(1, 1, 1.0, 2.0, 3.0, 0.5, 0.25, 10, 20, 30, None, 0, 0), "as they were"
    assert totals.frozen() == Totals(3, 4, 2.0, 4.0, 6.0, 1.0, 0.5, 20, 40, 60, 0.2, 2, 7)
