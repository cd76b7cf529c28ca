"""The sums of an operation while they grow: one object that changes, as a million jobs would make a million others.

The rule: the fields are those of ``Totals``, in its order; a status gets a copy that stays as it is.
"""

from __future__ import annotations

import msgspec

from tilefleet.facts import CheckFacts
from tilefleet.messages import JobDone
from tilefleet.records import Totals


class RunningTotals(msgspec.Struct):
    """``Totals`` that can be added to."""

    jobs: int = 0
    attempts: int = 0
    waited_s: float = 0.0
    fetched_s: float = 0.0
    computed_s: float = 0.0
    checked_s: float = 0.0
    committed_s: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    flops: int = 0
    check_worst: float | None = None
    checked_jobs: int = 0
    mismatches: int = 0

    def add(self, message: JobDone) -> None:
        """One more job is done."""
        times, worst = message.times, message.check_worst
        self.jobs += 1
        self.attempts += 1
        self.waited_s += times.waited_s
        self.fetched_s += times.fetched_s
        self.computed_s += times.computed_s
        self.checked_s += times.checked_s
        self.committed_s += times.committed_s
        self.bytes_read += times.bytes_read
        self.bytes_written += times.bytes_written
        self.flops += times.flops
        if worst is not None:
            self.checked_jobs += 1
            self.check_worst = worst if self.check_worst is None or worst > self.check_worst else self.check_worst
        if isinstance(message.facts, CheckFacts):
            self.mismatches += message.facts.mismatches

    def frozen(self) -> Totals:
        """As they are now."""
        return Totals(*msgspec.structs.astuple(self))
