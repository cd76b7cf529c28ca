"""How far an operation is, in words and numbers: pure functions from statuses. ``live`` puts them on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coordinator.cli.render import count_text, rate_text
from tilefleet.quantities import format_bytes, format_seconds
from tilefleet.records import Control, OperationStatus, StageStatus


class Bar(NamedTuple):
    """One line of progress: ``done`` of ``total`` jobs, and what stands beside the bar."""

    label: str
    done: int
    total: int
    text: str


def overall(status: OperationStatus | None, elapsed_s: float) -> Bar:
    """The whole operation in one line. ``elapsed_s``: since it was submitted."""
    if status is None or not status.stages:
        waiting = (status.note or status.state) if status else "submitted"
        return Bar(waiting, 0, 0, format_seconds(elapsed_s))
    done, total = (sum(getattr(stage, name) for stage in status.stages) for name in ("n_done", "n_jobs"))
    current = current_stage(status)
    facts = [f"{done}/{total} jobs", *rates(status), remaining(status, elapsed_s), status.note]
    return Bar(current.name if current else status.state, done, total, " · ".join(fact for fact in facts if fact))


def by_stage(status: OperationStatus) -> list[Bar]:
    """One line for each stage that was planned so far."""
    return [
        Bar(stage.name, stage.n_done, stage.n_jobs, f"{stage.n_done}/{stage.n_jobs} jobs · {format_seconds(stage.elapsed_s)}")
        for stage in status.stages
    ]


def by_worker(control: Control | None, names: Sequence[str], now_s: float) -> list[str]:
    """One line for each worker of the fleet that works on the operation (all when none is named)."""
    if control is None:
        return []
    return [
        f"{worker.name}: {count_text(worker.held, 'job')} held, {count_text(worker.cores, 'core')}, "
        f"{format_bytes(worker.memory_bytes)}, heard {format_seconds(max(0.0, now_s - worker.heard_at))} ago"
        for worker in control.workers
        if not names or worker.name in names
    ]


def current_stage(status: OperationStatus) -> StageStatus | None:
    """The first stage that still has something to do."""
    return next((stage for stage in status.stages if stage.n_done < stage.n_jobs), None)


def rates(status: OperationStatus) -> list[str]:
    """Arithmetic (of products) and traffic so far, per second of the stages' time."""
    computing_s = sum(stage.elapsed_s for stage in status.stages if stage.phase == "compute")
    elapsed_s = sum(stage.elapsed_s for stage in status.stages)
    found = []
    if status.kind == "multiply" and status.totals.flops and computing_s > 0:
        found.append(rate_text(status.totals.flops / computing_s, "FLOP/s"))
    moved = status.totals.bytes_read + status.totals.bytes_written
    if moved and elapsed_s > 0:
        found.append(rate_text(moved / elapsed_s, "B/s"))
    return found


def remaining(status: OperationStatus, elapsed_s: float) -> str:
    """``12 s left``: the coordinator's estimate; else in proportion to the jobs done, once a tenth of them is."""
    if status.is_ended:
        return ""
    if status.remaining_s is not None:
        return f"{format_seconds(max(1.0, status.remaining_s))} left"
    done, total = (sum(getattr(stage, name) for stage in status.stages) for name in ("n_done", "n_jobs"))
    if not done or done * 10 < total:
        return ""
    return f"{format_seconds(max(1.0, elapsed_s * (total - done) / done))} left"


def milestone(status: OperationStatus | None) -> str:
    """A line that changes only when the operation comes to something new: what a log wants of it."""
    if status is None:
        return "submitted"
    if status.is_ended:
        return status.state + (f" in {format_seconds(status.phases_s['total'])}" if "total" in status.phases_s else "")
    current = current_stage(status)
    if status.state == "running" and current is not None:
        done = [stage.name for stage in status.stages if stage.n_done >= stage.n_jobs]
        after = f" (done: {', '.join(done)})" if done else ""
        return f"running {current.name}, {count_text(current.n_jobs, 'job')}{after}"
    return status.state + (f": {status.note}" if status.note else "")
