"""How much work is left, in the time of one worker: what autoscaling goes by. Rough is enough, it is looked at again soon."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coordinator.core import cost
from coordinator.core.operation_run import OperationRun
from coordinator.core.plans import Settings, next_part, plan
from tilefleet.errors import TilefleetError


def work_left_s(runs: Iterable[OperationRun], fleet: Callable[[], cost.FleetFacts], settings: Settings) -> float:
    """Of all operations together. ``fleet`` is asked only for those that have no plan yet: it looks at every worker."""
    return round(sum(_left_s(run, fleet, settings) for run in runs), 3)


def _left_s(run: OperationRun, fleet: Callable[[], cost.FleetFacts], settings: Settings) -> float:
    """Of one; of one that waits for its first worker, what a plan for workers of a usual kind would take."""
    if run.is_ended:
        return 0.0
    if run.plan is not None:
        return sum(stage.remaining_worker_s for stage in run.runs.values())
    if run.guessed_worker_s is None:
        run.guessed_worker_s = _guessed_s(run, fleet(), settings)
    return run.guessed_worker_s


def _guessed_s(run: OperationRun, fleet: cost.FleetFacts, settings: Settings) -> float:
    part = next_part(run.record, run.parts_done)
    try:
        made = plan(part, run.record, run.known, fleet, settings) if part is not None else None
    except TilefleetError:
        return 0.0  # it will fail with its sentence as soon as it is planned
    except Exception:  # noqa: BLE001 - as for the planner itself: a bug that one operation meets must not stop the others
        return 0.0
    return sum(stage.n_jobs * (stage.job_s or cost.JOB_OVERHEAD_S) for stage in made.stages) if made is not None else 0.0
