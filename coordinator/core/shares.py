"""Whose turn it is: start-time fair queueing over operations (Goyal, Vin & Cheng, SIGCOMM 1996).

Each operation has a virtual time that grows by the predicted seconds of the jobs it was given. The one with the least is
served next; a new one begins at the present virtual time, so it is served at once and catches up with nobody's past.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from coordinator.core.operation_run import OperationRun
from coordinator.core.stage_run import StageRun

LEAST_S = 1e-3  # even a job of no predicted cost moves its operation back


class FairShares:
    """The virtual time of the operation that was served last."""

    def __init__(self) -> None:
        self.virtual_time = 0.0

    def turns(self, runs: Iterable[OperationRun], n_turns: int, now: float) -> Iterator[tuple[OperationRun, StageRun]]:
        """Up to ``n_turns`` stages to take a job from, in order; each must be taken before the next is asked for."""
        ready = [(run.virtual_time, order, run) for order, run in enumerate(runs) if run.ready_run(now) is not None]
        heapq.heapify(ready)
        while n_turns > 0 and ready:
            _, order, run = ready[0]
            stage = run.ready_run(now)
            if stage is None:
                heapq.heappop(ready)
                continue
            self.virtual_time = max(self.virtual_time, run.virtual_time)
            run.virtual_time = self.virtual_time + max(stage.stage.job_s, LEAST_S)
            heapq.heapreplace(ready, (run.virtual_time, order, run))
            n_turns -= 1
            yield run, stage
