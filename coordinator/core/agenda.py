"""What waits for the scheduler, kept up by what happens: to decide costs what changed, and not what is open.

Whatever may change an operation touches it. Before anything is read, those that were touched are looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.core.earliest import Earliest
from coordinator.core.operation_run import NEVER, OperationRun
from coordinator.core.shares import FairShares


class Agenda:
    """Attempts that are out, operations to plan, statuses to write, and when what is to be tried again is due."""

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self._touched: dict[OperationRun, None] = {}
        self._n_out: dict[OperationRun, int] = {}
        self._n_out_of_all = 0
        self._to_plan: dict[OperationRun, None] = {}
        self._unwritten = Earliest()
        """Whose status has changed, by when it was last written."""
        self._due = Earliest()

    def touch(self, *runs: OperationRun) -> None:
        """Say that these may have changed."""
        for run in runs:
            self._touched[run] = None

    def n_out(self, now: float) -> int:
        """Attempts of operations that go on. What is out of ended ones takes no room: workers drop it on receipt."""
        self._settle(now)
        return self._n_out_of_all

    def to_plan(self, now: float) -> list[OperationRun]:
        """Operations whose next part is to be planned."""
        self._settle(now)
        return list(self._to_plan)

    def to_write(self, every_s: float, now: float) -> list[OperationRun]:
        """Operations that changed since their status was written, which was ``every_s`` ago or longer."""
        self._settle(now)
        found = []
        for run in self._unwritten.pop_until(now - every_s):
            if run.is_dirty and run.written <= now - every_s:
                found.append(run)
            elif run.is_dirty:
                self._unwritten.put(run, run.written)
        return found

    def next_deadline(self, every_s: float, gathered_at: float, now: float) -> float:
        """When one of these will be due. What was due before waits for room in the window, not for the clock."""
        self._settle(now)
        planning = gathered_at if self._to_plan else NEVER
        return min(self._unwritten.number() + every_s, self._due.number(), planning)

    def _settle(self, now: float) -> None:
        self.touch(*self._due.pop_until(now))
        for run in self._touched:
            self._look_at(run, now)
        self._touched.clear()

    def _look_at(self, run: OperationRun, now: float) -> None:
        n_out = 0 if run.is_ended else run.n_out
        self._n_out_of_all += n_out - self._n_out.pop(run, 0)
        if n_out:
            self._n_out[run] = n_out
        self._to_plan.pop(run, None)
        if run.is_to_plan:
            self._to_plan[run] = None
        if run.is_dirty:
            self._unwritten.put(run, run.written)
        if not run.is_ended:
            self._shares.wait(run)
            if (due := run.next_due()) > now:
                self._due.put(run, due)

    def validate(self, runs: Iterable[OperationRun], now: float) -> None:
        """Raises AssertionError when looking at every operation would tell something else."""
        self._settle(now)
        for run in runs:
            n_out = 0 if run.is_ended else run.n_out
            is_kept = (
                self._n_out.get(run, 0) == n_out
                and (run in self._to_plan) == run.is_to_plan
                and (run in self._unwritten or not run.is_dirty)
                and (self._shares.is_waiting(run) or run.ready_run(now) is None)
            )
            if not is_kept:
                raise AssertionError(f"operation {run.id} has changed, and the agenda does not know it")
        if sum(self._n_out.values()) != self._n_out_of_all:
            raise AssertionError(f"{self._n_out_of_all} attempts are counted as out, and {sum(self._n_out.values())} are")
