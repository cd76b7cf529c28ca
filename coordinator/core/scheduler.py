"""The scheduler: events in, commands out. It owns no socket, no clock and no randomness.

The rules
- A job is known for ever by (operation, stage, index); it is done once, by whichever attempt is heard first.
- At most ``jobs_per_worker`` × workers attempts are out at a time, so that order, fairness and cancelling stay in our hands
  and memory does not grow with plans. The operation that had least work so far is served next.
- Every attempt that is out ends: it is heard, or its worker is lost, or it waited too long unheld; then it is tried again,
  ``max_attempts`` times in all. Every operation ends: done, failed with a sentence, or cancelled.
- An ended operation is cleaned up when nobody can write for it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coordinator.core import patience
from coordinator.core.agenda import Agenda
from coordinator.core.commands import Bury, CleanUp, Command, SavePlan, SendJobs, WriteStatus
from coordinator.core.events import (
    Adopted,
    CancelAsked,
    CleanedUp,
    DeadLettered,
    Deafened,
    EffectFailed,
    Event,
    Heard,
    PlanSaved,
    QueueLost,
    SendFailed,
)
from coordinator.core.operation_run import OperationRun
from coordinator.core.outlook import work_left_s
from coordinator.core.plans import Plan, Settings, plan
from coordinator.core.settings import SchedulerSettings
from coordinator.core.shares import FairShares
from coordinator.core.stage_run import StageRun
from coordinator.core.workers import Worker, Workers
from tilefleet.errors import DoesNotFit, ErrorInfo, TilefleetError
from tilefleet.messages import Job, JobDone, JobFailed, WorkerBye, WorkerHeartbeat, WorkerHello, WorkerMessage
from tilefleet.records import Control, State

HOUSEKEEPING_S = 1.0
REMEMBERED_ENDED = 200  # ended operations whose late jobs workers are told to drop


class Scheduler:
    """State of a coordinator. ``wall_offset`` turns its clock into seconds since 1970, for people."""

    def __init__(self, settings: SchedulerSettings, epoch: int, wall_offset: float = 0.0) -> None:
        self.settings = settings
        self.epoch = epoch
        self.operations: dict[str, OperationRun] = {}
        self.workers = Workers()
        self._planning = Settings(settings.store_url, settings.job_target_s)
        self._wall_offset = wall_offset
        self._shares = FairShares()
        self._agenda = Agenda(self._shares)
        self._housekept = self._handled = float("-inf")
        self._had_workers = False
        self._ended: dict[str, None] = {}
        self._commands: list[Command] = []

    def handle_all(self, events: Iterable[Event], now: float) -> list[Command]:
        """Take note of what happened, in its order, and say what is to be done: decided once for all that was heard together."""
        self._commands, self._handled = [], now
        for event in events:
            if isinstance(event, Heard):
                self._heard(event.message, now)  # nearly all
            else:
                self._take_note(event, now)
        if now >= self._housekept + HOUSEKEEPING_S:
            self._keep_house(now)
        self._plan_waiting(now)
        self._fill_window(now)
        for run in self._agenda.to_write(patience.status_every_s(len(self.operations)), now):
            self._write_status(run, now)
        return self._commands

    def _take_note(self, event: Event, now: float) -> None:
        match event:
            case Adopted():
                self._adopt(event, now)
            case PlanSaved():
                self._plan_saved(event.operation, event.plan, now)
            case CancelAsked():
                self._end_open(event.operation, "cancelled", None, now)
            case SendFailed():
                self._send_failed(event.jobs, now)
            case DeadLettered():
                self._dead_lettered(event.job, now)
            case QueueLost():
                self._queue_lost(now)
            case _:
                self._effect_ended(event, now)

    def _effect_ended(self, event: Event, now: float) -> None:
        match event:
            case EffectFailed():
                self._end_open(event.operation, "failed", event.error, now)
            case CleanedUp():
                self.operations.pop(event.operation, None)
            case Deafened():
                self.workers.deaf_at = now

    def next_deadline(self, now: float) -> float:
        """When to call again with ``Ticked`` if nothing happens before."""
        every_s = patience.status_every_s(len(self.operations))
        deadline = self._agenda.next_deadline(every_s, self.workers.gathered_at, self._handled)
        return max(now, min(deadline, self._housekept + HOUSEKEEPING_S))

    def control(self, now: float, leader: str, version: str) -> Control:
        """The beacon."""
        ended = {run.id: None for run in self.operations.values() if run.is_ended}
        return Control(
            epoch=self.epoch, at=now + self._wall_offset, fleet=self.settings.fleet, leader=leader, version=version,
            cancelled=tuple(ended | self._ended), n_open=len(self.operations), workers=self.workers.views(self._wall_offset),
            remaining_worker_s=work_left_s(self.operations.values(), self.workers.facts, self._planning),
            departed=dict(self.workers.departed),
        )  # fmt: skip

    def _adopt(self, event: Adopted, now: float) -> None:
        record = event.record
        if record.id in self.operations:
            return
        run = self.operations[record.id] = OperationRun(record, now, self._shares.virtual_time)
        self._agenda.touch(run)
        run.is_resumed, run.workerless_since = bool(event.plans), None if len(self.workers) else now
        for saved in event.plans.values():
            run.note_outputs(saved)
        if event.status is not None and event.status.is_ended:
            run.state, run.is_dirty, run.ended = event.status.state, False, now
            self._ended[run.id] = None  # jobs that an earlier leader sent may be out
            self._clean_if_quiet(run)
        elif event.is_cancelled:
            self._end(run, "cancelled", None, now)
        else:
            self._ended.pop(run.id, None)  # one that is repaired: its jobs are wanted again
            run.resume(event, now)
            self._advance(run, now)

    def _advance(self, run: OperationRun, now: float) -> None:
        """Go on to the next part, or end, when the present one is finished."""
        while run.is_part_finished and not run.is_ended:
            try:
                following = run.close_part(now)
            except TilefleetError as error:
                self._end(run, "failed", ErrorInfo.of(error), now)
                return
            run.is_dirty = True
            if following is not None:
                return
            self._finish(run, now)

    def _finish(self, run: OperationRun, now: float) -> None:
        error = None
        if run.record.kind == "verify":
            run.verdict, error = run.verification()
        self._end(run, "done" if error is None else "failed", error, now)

    def _end(self, run: OperationRun, state: State, error: ErrorInfo | None, now: float) -> None:
        run.state, run.error, run.ended, run.is_dirty, run.note = state, error, now, True, ""
        self._agenda.touch(run)
        self._ended[run.id] = None
        while len(self._ended) > REMEMBERED_ENDED:
            del self._ended[next(iter(self._ended))]
        self._write_status(run, now)
        self._clean_if_quiet(run)

    def _clean(self, run: OperationRun) -> None:
        if not run.is_cleaning:
            run.is_cleaning = True
            self._commands.append(CleanUp(run.id, run.state == "done", run.leftover_urls))

    def _end_open(self, operation: str, state: State, error: ErrorInfo | None, now: float) -> None:
        run = self.operations.get(operation)
        if run is not None and not run.is_ended:
            self._end(run, state, error, now)

    def _plan_waiting(self, now: float) -> None:
        has_workers = len(self.workers) > 0
        if not (has_workers and self._had_workers):
            self._had_workers = has_workers
            for run in self.operations.values():
                if not run.is_ended:
                    run.say("" if has_workers else "waiting for a worker")
                    self._agenda.touch(run)
        if now >= self.workers.gathered_at:
            for run in self._agenda.to_plan(now):
                self._plan(run, now)

    def _plan(self, run: OperationRun, now: float) -> None:
        self._agenda.touch(run)
        if (part := run.close_part(now)) is None:
            return
        try:
            made = plan(part, run.record, run.known, self.workers.facts(), self._planning)
        except Exception as error:  # noqa: BLE001 - a bug met by one operation must not stop the others, now and at each restart
            self._end(run, "failed", patience.unplanned_error(run, error), now)
            return
        run.plan_asked = part
        self._commands.append(SavePlan(run.id, made))

    def _plan_saved(self, operation: str, saved: Plan, now: float) -> None:
        run = self.operations.get(operation)
        if run is None or run.is_ended or run.plan_asked != saved.part:
            return
        self._agenda.touch(run)
        run.begin(saved, now)
        self._advance(run, now)

    def _heard(self, message: WorkerMessage, now: float) -> None:
        match message:
            case WorkerHeartbeat():
                self._heartbeat(message, now)
            case JobDone():
                self.workers.heard(message.worker, message.incarnation, now)
                self._job_done(message, now)
            case JobFailed():
                self.workers.heard(message.worker, message.incarnation, now)
                self._job_failed(message, now)
                if (worker := self.workers.doubt(message, now)) is not None:
                    self._lose(worker, now)
            case WorkerHello():
                if (replaced := self.workers.hello(message, now)) is not None:
                    self._lose(replaced, now)
            case WorkerBye():
                if (worker := self.workers.gone(message.worker, message.incarnation, message.reason)) is not None:
                    self._lose(worker, now)

    def _heartbeat(self, message: WorkerHeartbeat, now: float) -> None:
        worker = self.workers.heard(message.worker, message.incarnation, now)
        if worker is None:
            return
        before, worker.held, worker.heartbeat = worker.held, message.held, now
        for operation, name, index, number in message.held:
            if (stage := self._find(operation, name)[1]) is not None:
                stage.hold(index, number, message.incarnation, now)
        if before == message.held:
            return  # most of what is heard: there is nothing that it let go
        for held in before:
            if held not in message.held and (stage := self._find(held[0], held[1])[1]) is not None:
                stage.let_go(held[2], held[3], message.incarnation, now)  # its completion is on the way, and may be lost

    def _job_done(self, message: JobDone, now: float) -> None:
        run, stage = self._find(message.operation, message.stage)
        if run is None or stage is None:
            return
        attempt = stage.out.get(message.index)
        if not stage.mark_done(message.index, now):
            return
        stage.note_times(message.times)
        run.add(stage, message, now, attempt.sent if attempt is not None else None)
        run.is_dirty = True
        if stage.is_finished:
            self._advance(run, now)
        if run.is_ended:
            self._clean_if_quiet(run)

    def _job_failed(self, message: JobFailed, now: float) -> None:
        run, stage = self._find(message.operation, message.stage)
        if run is None or stage is None or not 0 <= message.index < stage.n_jobs or stage.is_done(message.index):
            return
        attempt = stage.out.get(message.index)
        run.note_wrong(message)
        if run.is_ended:
            stage.out.pop(message.index, None)
            self._clean_if_quiet(run)
        elif not message.is_retryable:
            stage.out.pop(message.index, None)
            self._end(run, "failed", message.error, now)
        elif attempt is None or attempt.number != message.attempt:
            return
        elif self.workers.is_set_aside(message.incarnation):  # its failures are its own: they count for nothing
            stage.return_unsent(message.index, now + HOUSEKEEPING_S)
        else:
            if message.error.code == DoesNotFit.code:
                stage.halve(message.index)
            self._try_again(run, stage, message.index, message.error.sentence, now, patience.retry_delay_s(message.attempt))

    def _try_again(self, run: OperationRun, stage: StageRun, index: int, why: str, now: float, delay_s: float = 0.0) -> None:
        n_failed = stage.retry(index, now + delay_s)
        run.totals.attempts += 1
        if n_failed >= self.settings.max_attempts:
            error = patience.given_up_error(run, stage, index, f"after {n_failed} attempts: {why}")
            job = stage.job(self.settings.fleet, run.id, self.epoch, index, stage.newest_attempt(index) - 1)
            self._commands.append(Bury(job, error.sentence))
            self._end(run, "failed", error, now)

    def _find(self, operation: str, stage: str) -> tuple[OperationRun | None, StageRun | None]:
        """For one who may change it."""
        run = self.operations.get(operation)
        if run is None:
            return None, None
        self._agenda.touch(run)
        return run, run.runs.get(stage)

    def _lose(self, worker: Worker, now: float) -> None:
        """What a lost worker held is tried again at once. Of one that was set aside it costs no attempt: the fault is its own."""
        is_own_fault = self.workers.is_set_aside(worker.hello.incarnation)
        why = f"worker {worker.hello.worker} was lost while it held it"
        for operation, name, index, number in worker.held:
            run, stage = self._find(operation, name)
            if run is None or stage is None or not stage.is_held_by(index, number, worker.hello.incarnation):
                continue
            if is_own_fault and not run.is_ended:
                stage.return_unsent(index, now)
            else:
                self._lose_attempt(run, stage, index, why, now)

    def _lose_attempt(self, run: OperationRun, stage: StageRun, index: int, why: str, now: float) -> None:
        if run.is_ended:
            stage.out.pop(index, None)
            self._clean_if_quiet(run)
        else:
            if stage.newest_attempt(index) > 0:  # not the machine's fault, it seems: perhaps it is killed for its memory
                stage.halve(index)
            self._try_again(run, stage, index, why, now)

    def _send_failed(self, jobs: tuple[Job, ...], now: float) -> None:
        for job in jobs:
            stage = self._find(job.operation, job.stage)[1]
            if stage is not None and (attempt := stage.out.get(job.index)) is not None and attempt.number == job.attempt:
                stage.return_unsent(job.index, now + HOUSEKEEPING_S)

    def _dead_lettered(self, job: Job, now: float) -> None:
        run, stage = self._find(job.operation, job.stage)
        if run is None or stage is None or run.is_ended or not 0 <= job.index < stage.n_jobs or stage.is_done(job.index):
            return
        if job.epoch != self.epoch or job.attempt < stage.newest_attempt(job.index) or stage.is_held(job.index):
            return  # overtaken by one that has deliveries of its own, or a worker that lives has it all the same
        self._lose_attempt(run, stage, job.index, "the queue gave it up: nobody who took it was heard of again", now)

    def _queue_lost(self, now: float) -> None:
        """Whatever nobody holds was in the queue."""
        self._agenda.touch(*self.operations.values())
        for _, stage in self._stages():
            for index in [index for index, attempt in stage.out.items() if attempt.holder is None]:
                stage.return_unsent(index, now)

    def _stages(self) -> Iterator[tuple[OperationRun, StageRun]]:
        return ((run, stage) for run in self.operations.values() for stage in run.runs.values())

    def _keep_house(self, now: float) -> None:
        self._housekept = now
        self._agenda.touch(*self.operations.values())
        for worker in self.workers.lose_silent(now, self.settings.worker_silence_s):
            self._lose(worker, now)
        self._retry_unheld(now)
        self._double_stragglers(now)
        for run in list(self.operations.values()):
            if run.is_ended:
                self._clean_if_quiet(run, now)
            else:
                if run.is_forsaken(self.workers, self.settings.no_worker_timeout_s, now):
                    self._end(run, "failed", patience.no_worker_error(self.settings), now)
                run.is_dirty = run.is_dirty or run.state == "running"

    def _retry_unheld(self, now: float) -> None:
        """Sending again is harmless where nothing was lost. It counts as another attempt only when somebody had tried."""
        for run, stage, index, attempt in list(patience.unheld(self._stages(), self.settings, now)):
            if attempt.held_since:
                self._lose_attempt(run, stage, index, "a worker that held it was never heard of it again", now)
            else:
                stage.return_unsent(index, now)

    def _double_stragglers(self, now: float) -> None:
        for stage, index in list(patience.straggling(self._stages(), self.workers, now)):
            stage.double(index, now)

    def _clean_if_quiet(self, run: OperationRun, now: float | None = None) -> None:
        """Clean up when no attempt of an ended operation can be out, or when every worker has let go of it."""
        is_quiet = (run.n_out == 0 and not run.has_second_attempts) or (
            now is not None and patience.is_let_go(run, self.workers, self.settings, now)
        )
        if run.is_ended and not run.is_cleaning and is_quiet:
            self._clean(run)

    def _fill_window(self, now: float) -> None:
        room = self.settings.jobs_per_worker * max(1, len(self.workers)) - self._agenda.n_out(now)
        if room <= 0:
            return
        jobs = []
        for run, stage in self._shares.turns(room, now):
            self._agenda.touch(run)
            jobs.append(stage.job(self.settings.fleet, run.id, self.epoch, *stage.take(now)))
        if jobs:
            self._commands.append(SendJobs(tuple(jobs)))

    def _write_status(self, run: OperationRun, now: float) -> None:
        run.is_dirty, run.written = False, now
        self._commands.append(WriteStatus(run.status(self.epoch, now, self._wall_offset, self.settings.keep_results_s)))

    def validate(self) -> None:
        """Raises AssertionError when the state contradicts the rules above; tests call it after every event."""
        for run in self.operations.values():
            run.validate()
        self._agenda.validate(self.operations.values(), self._handled)
