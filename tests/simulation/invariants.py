"""What must hold after every step of the simulated world, and what it knows that the scheduler must not.

The ledger is the truth: who suffered which fault, what was written. The invariants compare the real scheduler with it.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from coordinator.core.commands import CleanUp, Command, SendJobs
from coordinator.core.events import DeadLettered, Event, Heard, QueueLost
from coordinator.core.plans import Plan
from coordinator.core.scheduler import Scheduler
from coordinator.core.stage_run import StageRun
from tests.simulation import work
from tests.simulation.store import Tile, url_of
from tilefleet import layout
from tilefleet.messages import Job, JobDone, JobFailed, Work, decode_job, decode_worker
from tilefleet.records import OperationStatus

if TYPE_CHECKING:
    from tests.simulation.terms import Term
    from tests.simulation.world import World

JobKey = tuple[str, str, int]
STALE_S = 60.0  # a leader that is overtaken notices at its next beacon, when the store lets it look


class Ledger:
    """What happened to whom."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.troubles: Counter[JobKey] = Counter()
        """By job: attempts that a fault of the world struck."""
        self.computed: Counter[JobKey] = Counter()
        """By job: how often it was computed and committed."""
        self.works: dict[JobKey, Work] = {}
        """What each job that was ever sent means."""
        self.called_off: set[str] = set()
        """Operations whose jobs some leader told workers to drop."""
        self._said: set[tuple[str, str, int, int]] = set()
        self.cleaning: dict[str, float] = {}
        """When the leftovers of an operation began to be removed, first."""
        self.ended: dict[str, OperationStatus] = {}
        """By operation: the end that readers believed first."""

    def said(self, body: str) -> None:
        """A worker's message enters the queue: what it says is done must be committed."""
        message = decode_worker(body)
        if isinstance(message, JobDone | JobFailed):
            self._said.add((message.operation, message.stage, message.index, message.attempt))
        if isinstance(message, JobDone):
            known = self.works.get((message.operation, message.stage, message.index))
            if known is not None:
                self.is_written(message.operation, message.stage, message.index, known)

    def deleting(self, body: str) -> None:
        """A job message goes: its end was told, or nobody waits for it."""
        job = decode_job(body)
        is_told = (*job.key, job.attempt) in self._said or job.operation in self.called_off
        assert is_told, f"the message of {job.key} attempt {job.attempt} is deleted before its completion is sent"

    def is_written(self, operation: str, stage: str, index: int, known: Work) -> None:
        """All outputs of a job are, or were, in the store."""
        missing = self.unwritten(Job("", operation, stage, index, 0, 0, 0, known))
        assert not missing, f"{operation} {stage}[{index}] counts as done, and {missing[:3]} was never written"

    def unwritten(self, job: Job) -> list[str]:
        return [url for url in work.outputs(job) if url not in self._world.store.written_at]

    def hunger(self, job: Job) -> int:
        """How often what a job holds at a time must be halved, so that it fits."""
        nature = random.Random(repr((self._world.seed, job.key)))
        return nature.choice((1, 2)) if nature.random() < self._world.habits.hungry else 0

    def trouble(self, job: Job) -> None:
        """Something went wrong with an attempt at this job."""
        self.troubles[job.key] += 1

    def needs(self, job: Job) -> None:
        """A worker begins: what earlier jobs made must be there, unless nobody waits for the result any more."""
        if job.operation in self.cleaning or job.operation in self.ended:
            return
        missing = [url for url in work.inputs(job) if url not in self._world.store.objects]
        assert not missing, f"{job.key} attempt {job.attempt} was begun before {missing[:3]} were written"


class Invariants:
    """Watches every event that a scheduler handles and every status that is written."""

    def __init__(self, world: World) -> None:
        self.is_on = True
        self.n_events = 0
        self._world = world
        self._overtaken_at: dict[int, float] = {}

    # ---- the scheduler

    def watched(self, term: Term, event: Event, now: float) -> list[Command]:
        """Have the event handled; raises AssertionError when a rule is broken."""
        self.n_events += 1
        scheduler = term.scheduler
        if not self.is_on:
            return scheduler.handle_all((event,), now)
        self._leads_or_steps_down(term)
        newest, n_aside = _stale(scheduler, event), len(scheduler.workers.departed)
        commands = scheduler.handle_all((event,), now)
        scheduler.validate()
        if newest is not None and not _is_last_straw(scheduler, event, n_aside):
            stage, index, number, state = newest
            is_same = stage.newest_attempt(index) == number and _state(scheduler, event) == state
            assert is_same, f"{event} is of a stale attempt and was believed"
        match event:
            case Heard(message=JobDone() as message):
                self._counted_once(scheduler, message)
            case QueueLost():
                self._sent_again(scheduler, now)
        for command in commands:
            if isinstance(command, SendJobs):
                self._sent(term, command)
        assert scheduler.next_deadline(now) > now or commands, "the scheduler asks for one tick after another"
        return commands

    def _leads_or_steps_down(self, term: Term) -> None:
        if term.epoch < self._world.epoch:
            since = self._overtaken_at.setdefault(term.epoch, max(self._world.agenda.now, term.frozen_until))
            late_s = self._world.agenda.now - max(since, term.frozen_until, self._world.store.away_until)
            assert late_s < STALE_S, f"epoch {term.epoch} was overtaken {late_s:.0f} s ago and still leads"

    def _counted_once(self, scheduler: Scheduler, message: JobDone) -> None:
        run = scheduler.operations.get(message.operation)
        if run is None or run.is_ended:
            return
        n_done = sum(stage.n_done for stage in run.finished_stages) + sum(stage.n_done for stage in run.runs.values())
        assert run.totals.jobs <= n_done, f"{run.totals.jobs} jobs of {run.id} were counted, {n_done} are done"
        stage = run.runs.get(message.stage)
        if stage is not None and 0 <= message.index < stage.n_jobs and stage.is_done(message.index):
            self._world.ledger.is_written(run.id, message.stage, message.index, stage.stage.work(message.index))

    def _sent_again(self, scheduler: Scheduler, now: float) -> None:
        for run in scheduler.operations.values():
            for stage in () if run.is_ended else run.runs.values():
                for index, attempt in stage.out.items():
                    is_known = attempt.holder is not None or attempt.sent >= now
                    assert is_known, f"{stage.stage.name}[{index}] was in the queue that is lost, and is not sent again"

    def _sent(self, term: Term, command: SendJobs) -> None:
        scheduler = term.scheduler
        n_out = sum(run.n_out for run in scheduler.operations.values() if not run.is_ended)
        window = self._world.settings.jobs_per_worker * max(1, len(scheduler.workers))
        assert n_out <= window, f"{n_out} attempts are out, the window is {window}"
        for job in command.jobs:
            run = scheduler.operations[job.operation]
            assert not run.is_ended, f"{job.key} is sent, though {run.id} is {run.state}"
            assert job.epoch == scheduler.epoch
            assert job.fleet == self._world.settings.fleet
            for name in run.runs[job.stage].stage.after:
                assert run.runs[name].is_finished, f"{job.key} is sent before {name} is finished"
            self._is_new(term, job)
            known = self._world.ledger.works.setdefault(job.key, job.work)
            assert known == job.work, f"{job.key} means something else than before"

    def _is_new(self, term: Term, job: Job) -> None:
        """What lay in the store before the leader looked is not done again."""
        written_at, looked = self._world.store.written_at, term.looked_at.get(job.operation, 0.0)
        is_old = all(url in self._world.store.objects and written_at[url] < looked for url in work.outputs(job))
        assert not is_old, f"{job.key} is sent though its outputs were there when {job.operation} was taken up"

    # ---- what readers see

    def status_written(self, status: OperationStatus) -> None:
        """A status object was replaced; readers believe that of the highest epoch."""
        world = self._world
        if world.believed(status.id) is not status:
            return
        first = world.ledger.ended.get(status.id)
        if first is not None:
            assert status.state == first.state, f"{status.id} was {first.state} for its readers and is {status.state} now"
        if not status.is_ended:
            return
        world.ledger.ended.setdefault(status.id, status)
        if status.state == "done":
            self._is_complete(status)
        elif status.state == "failed":
            assert status.error is not None
            assert len(status.error.sentence) > 20, "a failure has a sentence"

    def _is_complete(self, status: OperationStatus) -> None:
        world = self._world
        plan: Plan = world.store.get(url_of(layout.plan(status.id, "main")))
        for stage in plan.stages:
            for index in range(stage.n_jobs):
                world.ledger.is_written(status.id, stage.name, index, stage.work(index))
        self.is_readable(status.id, plan)

    def is_readable(self, operation: str, plan: Plan) -> None:
        """The result stands under its name, whole and right."""
        objects, result = self._world.store.objects, plan.result
        if result is None:
            return
        if result.format != "zarr":
            assert result.url in objects, f"{operation} is done and {result.url} is not there"
            return
        assert objects.get(f"{result.url}/{work.METADATA}") == operation, f"{operation} is done and not published"
        for url in work.tiles(result, work.whole(result)):
            tile = objects.get(url)
            assert isinstance(tile, Tile), f"{operation} is done and {url} is not there"
            assert tile.is_right, f"{url} is wrong"

    def cleaning(self, command: CleanUp) -> None:
        """An operation's leftovers are about to be removed."""
        status = self._world.believed(command.operation)
        assert status is not None, f"{command.operation} is cleaned up before anything was said of it"
        assert status.is_ended, f"{command.operation} is cleaned up before its end was written"
        self._world.ledger.cleaning.setdefault(command.operation, self._world.now)

    # ---- the end

    def all_is_quiet(self) -> None:
        """Nothing temporary is left of ended operations but what a worker wrote late, and nothing in memory."""
        world = self._world
        for operation, cleaned in world.ledger.cleaning.items():
            status = world.believed(operation)
            assert status is not None
            if status.state == "done":
                self.is_readable(operation, world.store.get(url_of(layout.plan(operation, "main"))))
            left = [url for url in world.store.objects if _is_temporary(url, operation, is_kept=status.state == "done")]
            left = [url for url in left if world.store.written_at.get(url, 0.0) < cleaned]
            assert not left, f"{operation} has ended and left {left[:3]}"
        for term in world.terms():
            assert not term.scheduler.operations, "nothing stays in memory"


def _is_temporary(url: str, operation: str, *, is_kept: bool) -> bool:
    """Whether nobody needs an object any more: besides what is temporary, the tiles of a result that is not to be kept."""
    if operation not in url:
        return False
    if not is_kept and url.startswith(("s3://", url_of(layout.result(operation)))):
        return True
    root = url_of(layout.operation(operation))
    kept = (f"{root}/record.json", f"{root}/cancel.json", f"{root}/plan/", f"{root}/status/")
    return ".partial-" in url or (url.startswith(f"{root}/") and not url.startswith(kept))


def _stale(scheduler: Scheduler, event: Event) -> tuple[StageRun, int, int, str] | None:
    """For a message about an attempt that is not the newest: the stage, the job, the newest attempt, the operation's state."""
    match event:
        case Heard(message=JobFailed(is_retryable=True) as message):
            job, is_foreign = message, False
        case DeadLettered(job=job):
            is_foreign = job.epoch != scheduler.epoch
        case _:
            return None
    run = scheduler.operations.get(job.operation)
    stage = run.runs.get(job.stage) if run is not None else None
    if run is None or stage is None or not job.index < stage.n_jobs or stage.is_done(job.index):
        return None
    newest = stage.newest_attempt(job.index)
    return (stage, job.index, newest, run.state) if is_foreign or job.attempt < newest else None


def _is_last_straw(scheduler: Scheduler, event: Event, n_aside: int) -> bool:
    """Whether its worker was set aside for it: it then loses all that it holds, which may be the newest attempt, too."""
    match event:
        case Heard(message=JobFailed() as message):
            return len(scheduler.workers.departed) > n_aside and scheduler.workers.is_set_aside(message.incarnation)
    return False


def _state(scheduler: Scheduler, event: Event) -> str:
    job = event.job if isinstance(event, DeadLettered) else event.message  # type: ignore[union-attr]
    return scheduler.operations[job.operation].state  # type: ignore[union-attr]
