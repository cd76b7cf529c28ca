"""Cores and wirings that are broken on purpose: the simulation must notice each of them.

Each is one rule of design.md left out, by a subclass of the real core or a patch of the simulated wiring.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from coordinator.core.events import Adopted, DeadLettered, Event, QueueLost
from coordinator.core.operation_run import OperationRun
from coordinator.core.scheduler import Scheduler
from coordinator.core.stage_run import StageRun
from coordinator.core.stages import Stage
from tests.simulation import work
from tests.simulation.coordinators import SimCoordinator
from tests.simulation.faults import CALM, Habits
from tests.simulation.processes import Steps
from tests.simulation.store import Tile, url_of
from tests.simulation.terms import Term
from tests.simulation.workers import Letter, SimWorker
from tests.simulation.world import Cast
from tilefleet import layout
from tilefleet.errors import TilefleetError, Unreachable
from tilefleet.messages import Job, JobDone, JobFailed
from workerd.context import Outcome
from workerd.leases import LeaseBook

# ---- schedulers


class NoStaleAttemptCheck(Scheduler):
    """The failure of any attempt counts against the newest."""

    def _job_failed(self, message: JobFailed, now: float) -> None:
        stage = self._find(message.operation, message.stage)[1]
        if stage is not None and 0 <= message.index < stage.n_jobs:
            message = msgspec.structs.replace(message, attempt=stage.newest_attempt(message.index))
        super()._job_failed(message, now)


class StaleDeadLetters(Scheduler):
    """A dead letter of an earlier attempt, or of an earlier leader, counts."""

    def _dead_lettered(self, job: Job, now: float) -> None:
        stage = self._find(job.operation, job.stage)[1]
        number = stage.newest_attempt(job.index) if stage is not None else 0
        super()._dead_lettered(msgspec.structs.replace(job, attempt=number, epoch=self.epoch), now)


class NoDeadLetters(Scheduler):
    """Nobody looks into the dead-letter queue, nor for jobs that nobody holds."""

    def _take_note(self, event: Event, now: float) -> None:
        if not isinstance(event, DeadLettered):
            super()._take_note(event, now)

    def _retry_unheld(self, now: float) -> None:
        return


class NoResend(Scheduler):
    """What was in a lost queue is not sent again."""

    def _take_note(self, event: Event, now: float) -> None:
        if not isinstance(event, QueueLost):
            super()._take_note(event, now)


class ForgetsRetries(Scheduler):
    """A failed attempt is dropped."""

    def _try_again(self, run: OperationRun, stage: StageRun, index: int, *_: Any) -> None:
        stage.out.pop(index, None)


class SendsTheSameAgain(Scheduler):
    """What did not fit is tried again as it was."""

    def _job_failed(self, message: JobFailed, now: float) -> None:
        error = msgspec.structs.replace(message.error, code=Unreachable.code)
        super()._job_failed(msgspec.structs.replace(message, error=error), now)


class NeverLosesWorkers(Scheduler):
    """A silent worker keeps what it held for ever, and nobody doubts it."""

    def _lose(self, worker: Any, now: float) -> None:
        return

    def _double_stragglers(self, now: float) -> None:
        return


class NoStragglerPolicy(Scheduler):
    """A worker that lives and does not end its job is waited for."""

    def _double_stragglers(self, now: float) -> None:
        return


class BelievesWithoutLooking(Scheduler):
    """After a restart, everything that was planned counts as done."""

    def _adopt(self, event: Adopted, now: float) -> None:
        done = {stage.name: tuple(range(stage.n_jobs)) for saved in event.plans.values() for stage in saved.stages}
        super()._adopt(msgspec.structs.replace(event, done=done), now)


class HasNoWindow(Scheduler):
    """Everything is sent at once."""

    def _fill_window(self, now: float) -> None:
        self.settings = msgspec.structs.replace(self.settings, jobs_per_worker=1000)
        super()._fill_window(now)


class CountsTwice(Scheduler):
    """A completion that is heard twice counts twice."""

    def _job_done(self, message: JobDone, now: float) -> None:
        run, stage = self._find(message.operation, message.stage)
        if run is not None and stage is not None and 0 <= message.index < stage.n_jobs and stage.is_done(message.index):
            run.add(stage, message, now, None)
        super()._job_done(message, now)


class IgnoresOrder(Scheduler):
    """A stage begins before those that it needs are finished."""

    def _adopt(self, event: Adopted, now: float) -> None:
        super()._adopt(event, now)
        self._loosen(event.record.id)

    def _plan_saved(self, operation: str, saved: Any, now: float) -> None:
        super()._plan_saved(operation, saved, now)
        self._loosen(operation)

    def _loosen(self, operation: str) -> None:
        for run in self.operations[operation].runs.values() if operation in self.operations else ():
            run.stage = msgspec.structs.replace(run.stage, after=())


class LooksAtNothingAgain(Scheduler):
    """What is heard of an operation does not get onto the agenda."""

    def _find(self, operation: str, stage: str) -> tuple[OperationRun | None, StageRun | None]:
        run = self.operations.get(operation)
        return (run, run.runs.get(stage)) if run is not None else (None, None)


class CleansUpAtOnce(Scheduler):
    """Leftovers are removed though the end has not been written."""

    def _end(self, run: OperationRun, *args: Any) -> None:
        run.state = args[0]
        self._clean(run)
        super()._end(run, *args)


# ---- coordinators


class RemembersNothingListed(Term):
    """Takes operations up without listing the tiles that are committed: facts and outputs of before are unknown."""

    def done(self, stage: Stage) -> tuple[int, ...]:
        return ()


class CountsHalfBlocks(Term):
    """One tile of a block is taken for the whole."""

    def done(self, stage: Stage) -> tuple[int, ...]:
        start = len(stage.output_url) + 1
        found = {stage.job_of_key(url[start:]) for url in self.world.store.below(stage.output_url)}
        return tuple(sorted(index for index in found if index is not None and index < stage.n_jobs))


class NeverStepsDown(Term):
    """Goes on leading when another has taken the lead."""

    def is_overtaken(self) -> bool:
        return False


class WritesForTheNewest(Term):
    """The epoch is ignored: whoever writes last is believed."""

    def write_status(self, status: Any) -> None:
        status = msgspec.structs.replace(status, epoch=self.world.epoch)
        self.world.store.put(url_of(layout.status(status.id, self.world.epoch)), status)
        self.world.invariants.status_written(status)


class ReadsTwice(Term):
    """An operation that is being read may be read again meanwhile (a bug that we had)."""

    def _adopt(self, operation: str) -> Steps[None]:
        if operation in self.adopting:
            return
        adopted = yield from self._load(operation)
        if adopted is not None and operation not in self.adopting:
            self.adopting.add(operation)
            self.tell(adopted)


class OverwritesPlans(Term):
    """A plan that is there is replaced by one's own."""

    def save_plan(self, command: Any) -> Any:
        self.world.store.put(url_of(layout.plan(command.operation, command.plan.part)), command.plan)
        return command.plan


class HasNoInbox(Term):
    """Only messages tell of operations: the store is not looked through."""

    def _inbox(self) -> Steps[None]:
        yield 0.0


# ---- workers


class NoRenewal(LeaseBook):
    """Leases are taken and never renewed."""

    def due(self, now: float) -> list[str]:
        super().due(now)
        return []


class DeletesFirst(SimWorker):
    """The message is deleted on receipt, before anything is committed, and failures are nobody's business."""

    def _do(self, handle: str, job: Job) -> Steps[None]:
        with suppress(TilefleetError):
            yield from self.world.jobs.delete([handle])
        yield from super()._do(handle, job)


class CompletesFirst(SimWorker):
    """The completion is sent before the commit."""

    def commit(self, job: Job, *, is_right: bool) -> Steps[None]:
        body = self._report(job, Outcome(work.facts_of(job.work)), 0.0)
        if body is not None:
            yield from self.world.completions.send([body])
        yield from super().commit(job, is_right=is_right)


class DoesNotComplete(SimWorker):
    """A completion that cannot be sent is forgotten, and its message deleted."""

    def complete(self, batch: list[Letter]) -> Steps[None]:
        try:
            yield from super().complete(batch)
        except TilefleetError:
            yield from self.world.jobs.delete([letter.handle for letter in batch])


class DoesNotCheck(SimWorker):
    """Wrong results are committed."""

    def check(self, *, is_right: bool) -> None:
        return


class Overwrites(SimWorker):
    """The last writer of a tile wins."""

    def write(self, url: str, tile: Tile) -> None:
        self.world.store.put(url, tile)


# ---- what each is


class Variant(NamedTuple):
    """A broken world, and within how many seeds it is noticed at the latest."""

    cast: Cast
    n_seeds: int
    habits: Habits | None = None
    """The faults that it takes, where those of any seed would take long."""


def _scheduler(broken: type[Scheduler]) -> Cast:
    return Cast(coordinator=type("SimCoordinator", (SimCoordinator,), {"scheduler": broken}))


def _term(broken: type[Term]) -> Cast:
    return Cast(coordinator=type("SimCoordinator", (SimCoordinator,), {"make_term": broken}))


def _worker(broken: type[SimWorker]) -> Cast:
    return Cast(worker=broken)


def _lease_book(broken: type[LeaseBook]) -> Cast:
    return Cast(worker=type("SimWorker", (SimWorker,), {"lease_book": broken}))


ROUGH = CALM._replace(is_steady=False)
VARIANTS: dict[str, Variant] = {
    "NoStaleAttemptCheck": Variant(_scheduler(NoStaleAttemptCheck), 60, ROUGH._replace(fail=0.5, duplicate=0.3, undeleted=0.3)),
    "StaleDeadLetters": Variant(_scheduler(StaleDeadLetters), 60, ROUGH._replace(fail=0.6, undeleted=0.9, job_s=0.1)),
    "NoDeadLetters": Variant(_scheduler(NoDeadLetters), 60, ROUGH._replace(worker_dies=0.02, job_s=0.3)),
    "NoResend": Variant(_scheduler(NoResend), 60),
    "ForgetsRetries": Variant(_scheduler(ForgetsRetries), 60),
    "SendsTheSameAgain": Variant(_scheduler(SendsTheSameAgain), 60, ROUGH._replace(hungry=0.3)),
    "NeverLosesWorkers": Variant(_scheduler(NeverLosesWorkers), 60, ROUGH._replace(worker_dies=0.01, lose_message=0.3)),
    "NoStragglerPolicy": Variant(_scheduler(NoStragglerPolicy), 60, ROUGH._replace(hang=0.2)),
    "BelievesWithoutLooking": Variant(_scheduler(BelievesWithoutLooking), 60),
    "HasNoWindow": Variant(_scheduler(HasNoWindow), 60),
    "CountsTwice": Variant(_scheduler(CountsTwice), 60),
    "IgnoresOrder": Variant(_scheduler(IgnoresOrder), 60),
    "LooksAtNothingAgain": Variant(_scheduler(LooksAtNothingAgain), 60),
    "CleansUpAtOnce": Variant(_scheduler(CleansUpAtOnce), 60),
    "RemembersNothingListed": Variant(_term(RemembersNothingListed), 60),
    "CountsHalfBlocks": Variant(_term(CountsHalfBlocks), 200, ROUGH._replace(worker_dies=0.02, coordinator_crash_every_s=3.0)),
    "NeverStepsDown": Variant(_term(NeverStepsDown), 60),
    "WritesForTheNewest": Variant(
        _term(WritesForTheNewest), 60, ROUGH._replace(coordinator_stall_every_s=6.0, coordinator_stall_s=15.0)
    ),
    "ReadsTwice": Variant(
        _term(ReadsTwice), 60, ROUGH._replace(job_s=0.05, slow_answer=0.08, slow_answer_s=15.0, duplicate=0.5)
    ),
    "OverwritesPlans": Variant(_term(OverwritesPlans), 200, ROUGH._replace(rival_every_s=2.0, slow_answer=0.3, drain_every_s=2)),
    "HasNoInbox": Variant(_term(HasNoInbox), 60),
    "NoRenewal": Variant(_lease_book(NoRenewal), 60, CALM._replace(job_s=14.0)),
    "DeletesFirst": Variant(_worker(DeletesFirst), 60),
    "CompletesFirst": Variant(_worker(CompletesFirst), 60),
    "DoesNotComplete": Variant(_worker(DoesNotComplete), 60),
    "DoesNotCheck": Variant(_worker(DoesNotCheck), 60, ROUGH._replace(wrong=0.2)),
    "Overwrites": Variant(_worker(Overwrites), 60),
}  # fmt: skip
