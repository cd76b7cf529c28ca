"""One operation on its way through its plan, and what it looks like to people."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

import msgspec

from coordinator.core.events import Adopted
from coordinator.core.plans import PARTS, Known, Part, Plan, join_scans, next_part, operands
from coordinator.core.stage_run import StageRun
from coordinator.core.stages import BlockStage, PublishStage, ScanStage
from coordinator.core.totals import RunningTotals
from coordinator.core.workers import Workers
from tilefleet.errors import ErrorInfo, WrongResult
from tilefleet.facts import BytesFact, CheckFacts, CsvFacts
from tilefleet.matrix import MatrixRef
from tilefleet.messages import JobDone, JobFailed
from tilefleet.records import ENDED, OperationRecord, OperationStatus, StageStatus, State

NEVER = float("inf")


class OperationRun:
    """The state of one operation. The scheduler alone changes it."""

    def __init__(self, record: OperationRecord, now: float, virtual_time: float) -> None:
        self.record = record
        self.state: State = "queued"
        self.virtual_time = virtual_time
        """Work handed out so far, as start-time fair queueing counts it (Goyal et al., SIGCOMM 1996)."""
        self.accepted = now
        self.planned: float | None = None
        self.ended: float | None = None
        self.error: ErrorInfo | None = None
        self.verdict = ""
        self.note = ""
        self.known = Known()
        self.plan: Plan | None = None
        self.plan_asked: Part | None = None
        """The part that is being written to the store."""
        self.parts_done: frozenset[Part] = frozenset()
        self.runs: dict[str, StageRun] = {}
        self.finished_stages: list[StageStatus] = []
        self.finished_windows: dict[str, tuple[float, float]] = {}
        """Both of earlier parts, for the status."""
        self.totals = RunningTotals()
        self.queue_wait_s = 0.0
        self.workers: set[str] = set()
        """Those that finished a job of it; sorted too, as sorting thousands would be most of a status."""
        self._sorted_workers: list[str] = []
        self.wrong: dict[str, int] = {}
        """By worker, its results that did not pass their check."""
        self.output_urls: set[str] = set()
        self.is_dirty = True
        self.written = float("-inf")
        """When its status was last handed to be written."""
        self.workerless_since: float | None = now
        self.is_cleaning = False
        self.is_resumed = False
        self.predicted_s = 0.0
        self.guessed_worker_s: float | None = None
        """Before it has a plan: the work that one would have."""

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def n_out(self) -> int:
        """Attempts that are out."""
        n_out = 0
        for run in self.runs.values():
            n_out += len(run.out)
        return n_out

    def is_forsaken(self, workers: Workers, timeout_s: float, now: float) -> bool:
        """Whether there has been no worker at all for that long, though it would have been heard; asked regularly."""
        if len(workers):
            self.workerless_since = None
        elif self.workerless_since is None:
            self.workerless_since = now
        return self.workerless_since is not None and now - max(self.workerless_since, workers.deaf_at) > timeout_s

    @property
    def is_to_plan(self) -> bool:
        """Whether its next part is to be planned."""
        return not self.is_ended and self.plan is None and self.plan_asked is None

    def next_due(self) -> float:
        """When the next job that is to be tried again may go out; infinite when there is none."""
        due = NEVER
        if not self.is_ended:
            for run in self.runs.values():
                due = min(due, run.next_due())
        return due

    def say(self, note: str) -> None:
        """Tell people what it is waiting for."""
        if self.note != note:
            self.note, self.is_dirty = note, True

    @property
    def has_second_attempts(self) -> bool:
        """Whether attempts may be out that ``n_out`` does not count: overtaken ones, and those an earlier leader sent."""
        return self.is_resumed or any(run.has_second_attempts for run in self.runs.values())

    def ready_run(self, now: float) -> StageRun | None:
        """A stage with a job to send, all that it needs being finished; None when there is none or the operation is over."""
        if self.is_ended:
            return None
        for run in self.runs.values():
            after = run.stage.after
            if run.has_ready(now) and (not after or all(self.runs[name].is_finished for name in after)):
                return run
        return None

    def begin(self, plan: Plan, now: float) -> None:
        """Go on with this part of the plan."""
        self.plan, self.plan_asked = plan, None
        self.planned = now if self.planned is None else self.planned
        self.known = Known({**self.known.sources, **plan.sources}, self.known.scans)
        self.runs = {stage.name: StageRun(stage) for stage in plan.stages}
        self.note_outputs(plan)
        self.predicted_s += plan.predicted_s
        self.state, self.is_dirty = "running", True

    def resume(self, event: Adopted, now: float) -> None:
        """Go on with the latest part that an earlier leader planned, and with what is done of it."""
        planned = [part for part in PARTS if part in event.plans]
        self.is_resumed = bool(planned)
        for part in planned:
            self.begin(event.plans[part], now)
            if part != planned[-1]:
                self.parts_done |= {part}
        for name, stage in self.runs.items():
            stage.facts = dict(event.facts.get(name, {}))
            stage.mark_found(event.done.get(name, ()))
        if any(isinstance(stage.stage, PublishStage) and stage.is_finished for stage in self.runs.values()):
            for stage in self.runs.values():  # what it was published from may have moved to its name already
                stage.mark_found(range(stage.n_jobs))

    def note_outputs(self, plan: Plan) -> None:
        """Remember where this part writes tiles, for cleaning up after an operation that did not end well."""
        self.output_urls |= outputs(plan)

    @property
    def leftover_urls(self) -> tuple[str, ...]:
        """Where tiles may lie that nobody needs any more: those staged for a result that has its name, or all."""
        return leftovers(self.output_urls, self.id, self.state)

    @property
    def is_part_finished(self) -> bool:
        return self.plan is not None and all(run.is_finished for run in self.runs.values())

    def close_part(self, now: float) -> Part | None:
        """Keep what the finished part found out; the part to plan next. Raises BadInput for a ragged CSV."""
        if self.plan is not None:
            self.parts_done |= {self.plan.part}
            self._learn()
            if next_part(self.record, self.parts_done) is not None:
                self.finished_windows = self._windows(now)
                self.finished_stages += [_stage_status(run, now) for run in self.runs.values()]
                self.plan, self.runs = None, {}
        return next_part(self.record, self.parts_done)

    def _learn(self) -> None:
        sources, scans = dict(self.known.sources), dict(self.known.scans)
        urls = {name: matrix.url for name, matrix in operands(self.record).items()}
        for name, run in self.runs.items():
            place = name.partition("_")[2]
            if isinstance(run.stage, ScanStage):
                facts = [fact for _, fact in sorted(run.facts.items()) if isinstance(fact, CsvFacts)]
                scans[urls[place]] = join_scans(facts, urls[place])
            elif name.startswith("gunzip_") and isinstance(fact := run.facts.get(0), BytesFact):
                plain = sources[urls[place]]
                sources[urls[place]] = msgspec.structs.replace(plain, size_bytes=fact.n_bytes)
        self.known = Known(sources, scans)

    def add(self, run: StageRun, message: JobDone, now: float, sent: float | None) -> None:
        """Count a finished job's times and facts."""
        if message.facts is not None:
            run.facts[message.index] = message.facts
        if sent is not None:
            self.queue_wait_s += max(0.0, now - sent - message.times.total_s)
        if message.worker not in self.workers:
            self.workers.add(message.worker)
            insort(self._sorted_workers, message.worker)
        self.totals.add(message)

    def note_wrong(self, message: JobFailed) -> None:
        """Count a result that did not pass its check for the worker that gave it."""
        if message.error.code == WrongResult.code:
            self.wrong[message.worker] = self.wrong.get(message.worker, 0) + 1

    def verification(self) -> tuple[str, ErrorInfo | None]:
        """verify: the finding, and the error when the result is wrong."""
        facts = [fact for run in self.runs.values() for fact in run.facts.values() if isinstance(fact, CheckFacts)]
        n_wrong, worst = sum(fact.mismatches for fact in facts), max((fact.worst for fact in facts), default=0.0)
        rows = sorted(fact.first_row for fact in facts if fact.first_row >= 0)
        target = self.record.verifies or "the result"
        if n_wrong or worst > 1:
            where = f", first in row {rows[0]}" if rows else ""
            found = f"{n_wrong} rows or elements differ" if n_wrong else f"an error of {worst:.3g} times what rounding may cause"
            return "wrong", ErrorInfo(
                "wrong_result", f"the result of {target} does not match its operands: {found}{where}; compute it again"
            )
        return _praise(self.record, worst), None

    def status(self, epoch: int, now: float, wall_offset: float, keep_s: float) -> OperationStatus:
        """What readers of the store see."""
        is_kept = self.record.out.url is None and self.record.kind != "verify" and self.state == "done"
        ended = self.ended
        return OperationStatus(
            id=self.id, state=self.state, epoch=epoch, kind=self.record.kind, updated_at=now + wall_offset,
            accepted_at=self.accepted + wall_offset,
            started_at=self.planned + wall_offset if self.planned is not None else 0.0,
            finished_at=ended + wall_offset if ended is not None else 0.0,
            expires_at=ended + wall_offset + keep_s if is_kept and ended is not None else None,
            note=self.note,
            stages=(*self.finished_stages, *(_stage_status(run, now) for run in self.runs.values())),
            phases_s=self._phases(now, wall_offset),
            totals=self.totals.frozen(), predicted_s=self.predicted_s or None, remaining_s=self._remaining_s(now),
            workers=tuple(self._sorted_workers), result=self._result() if self.state == "done" else None,
            verdict=self.verdict, error=self.error, wrong_results=dict(self.wrong),
        )  # fmt: skip

    def _result(self) -> MatrixRef | None:
        if self.plan is None or self.plan.result is None:
            return None
        for run in self.runs.values():
            if isinstance(run.stage, PublishStage) and isinstance(fact := run.facts.get(0), BytesFact):
                return msgspec.structs.replace(self.plan.result, size_bytes=fact.n_bytes)
        return self.plan.result

    def _phases(self, now: float, wall_offset: float) -> dict[str, float]:
        end = self.ended if self.ended is not None else now
        transit_s = max(0.0, self.accepted + wall_offset - self.record.submitted_at)
        phases = {"submit": self.record.submit_s + transit_s}
        phases["plan"] = (self.planned if self.planned is not None else end) - self.accepted
        for phase, (began, last) in self._windows(now).items():
            phases[phase] = last - began
        if self.totals.jobs:
            phases["queue_wait"] = self.queue_wait_s / self.totals.jobs
        if self.totals.checked_s and self.workers and self.record.kind != "verify":  # whose window it is already
            phases["verify"] = phases.get("verify", 0.0) + self.totals.checked_s / len(self.workers)
        phases["total"] = phases["submit"] + end - self.accepted
        return {name: round(seconds, 6) for name, seconds in phases.items()}

    def _windows(self, now: float) -> dict[str, tuple[float, float]]:
        """By phase: from its first job sent to its last job done; stages that run side by side are not counted twice."""
        windows = dict(self.finished_windows)
        for run in self.runs.values():
            if run.first_sent is None:
                continue
            end = run.last_done if run.is_finished and run.last_done is not None else now
            began, last = windows.get(run.stage.phase, (run.first_sent, end))
            windows[run.stage.phase] = (min(began, run.first_sent), max(last, end))
        return windows

    def validate(self) -> None:
        """Raises AssertionError when the operation is neither ended nor waiting for something, or has lost a job."""
        for stage in () if self.is_ended else self.runs.values():
            stage.validate()
        waits = self.plan is None or any(stage.out or not stage.is_finished for stage in self.runs.values())
        if not (self.is_ended or waits):
            raise AssertionError(f"operation {self.id} is neither ended nor waiting for anything")
        if self.is_ended and not (self.is_cleaning or self.n_out or self.has_second_attempts):
            raise AssertionError(f"operation {self.id} has ended and nobody cleans up after it")

    def _remaining_s(self, now: float) -> float | None:
        if self.is_ended or self.plan is None:
            return None
        total = 0.0
        for run in self.runs.values():
            if run.n_done and run.first_sent is not None:
                total += (now - run.first_sent) / run.n_done * (run.n_jobs - run.n_done)
            else:
                total += run.stage.job_s * run.n_jobs / max(1, len(self.workers) or 1)
        return total


def outputs(plan: Plan) -> set[str]:
    """Where a plan writes tiles."""
    return {stage.out.url for stage in plan.stages if isinstance(stage, BlockStage)}


def leftovers(urls: Iterable[str], operation: str, state: State) -> tuple[str, ...]:
    """Those of an ended operation's outputs that nobody needs: what was staged for a result that has its name, or all."""
    return tuple(sorted(url for url in urls if state != "done" or url.endswith(f".partial-{operation}")))


def _stage_status(run: StageRun, now: float) -> StageStatus:
    end = run.last_done if run.is_finished and run.last_done is not None else now
    elapsed_s = end - run.first_sent if run.first_sent is not None else 0.0
    return StageStatus(run.stage.name, run.stage.phase, run.n_jobs, run.n_done, len(run.out), round(elapsed_s, 6))


def _praise(record: OperationRecord, worst: float) -> str:
    target = record.verifies or "the result"
    if record.verifies_kind != "multiply":
        return f"{target} is correct: every element was computed again and is equal"
    if worst > 0:
        return f"{target} is correct: the residual is {worst:.2g} of what rounding may cause"
    return f"{target} is correct: the check vectors found no difference"
