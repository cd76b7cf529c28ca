"""Whose turn it is: start-time fair queueing over operations (Goyal, Vin & Cheng, SIGCOMM 1996).

Each operation has a virtual time that grows by the predicted seconds of the jobs it was given. The one with the least is
served next; a new one begins at the present virtual time, so it is served at once and catches up with nobody's past.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.core.earliest import Earliest
from coordinator.core.operation_run import OperationRun
from coordinator.core.stage_run import StageRun

LEAST_S = 1e-3  # even a job of no predicted cost moves its operation back


class FairShares:
    """Operations that may have a job to send. ``virtual_time`` is that of the one that was served last."""

    def __init__(self) -> None:
        self.virtual_time = 0.0
        self._waiting = Earliest()

    def wait(self, run: OperationRun) -> None:
        """Have it served when its turn comes, if it has a job then."""
        self._waiting.put(run, run.virtual_time)

    def is_waiting(self, run: OperationRun) -> bool:
        """Whether its turn will come."""
        return run in self._waiting

    def turns(self, n_turns: int, now: float) -> Iterator[tuple[OperationRun, StageRun]]:
        """Up to ``n_turns`` stages to take a job from, in order; each must be taken before the next is asked for."""
        while n_turns > 0 and (run := self._waiting.first()) is not None:
            self._waiting.remove(run)
            stage = run.ready_run(now)
            if stage is None:
                continue
            self.virtual_time = max(self.virtual_time, run.virtual_time)
            run.virtual_time = self.virtual_time + max(stage.stage.job_s, LEAST_S)
            self._waiting.put(run, run.virtual_time)
            n_turns -= 1
            yield run, stage
