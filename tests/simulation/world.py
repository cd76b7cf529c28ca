"""A world for the real cores: virtual time, SQS and S3 with their habits, workers and coordinators that die, stall and disagree.

Everything is drawn from one seeded generator, so a seed replays exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from coordinator.core.settings import SchedulerSettings
from tests.simulation.coordinators import SimCoordinator
from tests.simulation.faults import CALM, Habits
from tests.simulation.invariants import Invariants, Ledger
from tests.simulation.processes import INFINITE, Agenda
from tests.simulation.queues import SimQueue
from tests.simulation.store import SimStore, url_of
from tests.simulation.terms import Term
from tests.simulation.workers import SimWorker
from tilefleet import layout
from tilefleet.messages import Cancel, Submit, encode
from tilefleet.records import OperationRecord, OperationStatus

START_S = 1000.0
DEAD_LEASE_S = 30.0


class Cast(NamedTuple):
    """Who plays; broken variants put in their own."""

    worker: type[SimWorker] = SimWorker
    coordinator: type[SimCoordinator] = SimCoordinator


USUAL = Cast()


class World:
    """The services, the processes, and what befalls them."""

    def __init__(
        self, seed: int, habits: Habits, *, n_workers: int, settings: SchedulerSettings, cast: Cast = USUAL,
        memory_bytes: int = 1 << 30, is_one_machine: bool = True,
        max_receives: int = 5, n_coordinators: int = 1,
    ) -> None:  # fmt: skip
        self.seed = seed
        self.random = random.Random(seed)
        self.habits = habits
        self.settings = settings
        self.memory_bytes = memory_bytes
        self.max_receives = max_receives
        self.agenda = Agenda(START_S)
        self.store = SimStore(self.agenda, self.random, habits)
        self.dead_jobs = self._queue(DEAD_LEASE_S)
        self.jobs = self._queue(settings.lease_s, max_receives, self.dead_jobs)
        self.completions, self.operations = self._queue(settings.lease_s), self._queue(settings.lease_s)
        self.ledger, self.invariants = Ledger(self), Invariants(self)
        self.completions.on_enter, self.jobs.on_delete = self.ledger.said, self.ledger.deleting
        self.workers: list[SimWorker] = []
        self.coordinators: list[SimCoordinator] = []
        self.hang_s = 1e9
        self.has_hung = False
        self.longest_outage_s = self._outage_began = self._outage_until = 0.0
        self.is_over = False
        """The time of faults."""
        self._cast = cast
        self._is_one_machine = is_one_machine
        self._hanging: set[str] = set()
        self._submitted: list[str] = []
        self.opened: set[str] = set()
        """Whose open mark stands, or is about to be written."""
        self._n_made = 0
        self._epoch = 0
        for _ in range(n_coordinators):
            self.start_coordinator()
        for index in range(n_workers):
            self.start_worker(f"w{index}")
        for every_s, action in (
            (habits.coordinator_crash_every_s, self.crash_coordinator), (habits.queue_lost_every_s, self.lose_queue),
            (habits.drain_every_s, self.drain_one), (habits.outage_every_s, self.store_is_away),
            (habits.coordinator_stall_every_s, self.stall_coordinator), (habits.rival_every_s, self.start_rival),
        ):  # fmt: skip
            if every_s:
                self._repeat(every_s, action)

    def _queue(self, lease_s: float, max_receives: int = 0, dead: SimQueue | None = None) -> SimQueue:
        return SimQueue(self.agenda, self.random, self.habits, lease_s, max_receives, dead)

    # ---- driving

    @property
    def now(self) -> float:
        return self.agenda.now

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        self.agenda.at(delay_s, action)

    def run(self, until: Callable[[], bool], limit_s: float) -> None:
        """Let time pass until a condition holds. Raises AssertionError when it does not within ``limit_s``."""
        if not self.agenda.run(until, limit_s):
            raise AssertionError(f"nothing came of it in {limit_s:.0f} s:\n{self.story()}")

    def story(self) -> str:
        """Who leads, what is open, and who holds what."""
        lines = [f"{self.now:.1f} s, epoch {self.epoch}, {len(self.jobs.messages)} jobs in the queue"]
        for term in self.terms():
            for run in term.scheduler.operations.values():
                out = {
                    f"{stage.stage.name}[{index}]": attempt for stage in run.runs.values() for index, attempt in stage.out.items()
                }
                lines.append(f"epoch {term.epoch} sees {run.id} {run.state}, cleaning {run.is_cleaning}, out {out}")
        for worker in self.workers:
            held = [f"{job.key} attempt {job.attempt}" for job in worker.roster.jobs]
            lines.append(f"{worker.name}/{worker.incarnation} alive {worker.is_alive} stopping {worker.is_stopping} holds {held}")
        return "\n".join(lines)

    def draws(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def become_calm(self) -> None:
        """Faults stop from now on; what is under way stays as it is."""
        self.is_over = True
        self.habits = CALM._replace(job_s=self.habits.job_s, hungry=self.habits.hungry)
        for service in (self.store, self.jobs, self.completions, self.operations, self.dead_jobs):
            service.habits = self.habits
        for process in (*self.workers, *self.coordinators, *self.terms()):
            process.steps_left = INFINITE

    def life(self, dies: float) -> float:
        """How many steps a process has before it that dies before each with that probability."""
        return self.random.expovariate(dies) if dies else INFINITE

    def _repeat(self, every_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            if not self.habits.is_calm:
                action()
                self.at(every_s * self.random.uniform(0.5, 1.5), again)

        self.at(every_s * self.random.uniform(0.5, 1.5), again)

    # ---- clients

    def submit(self, record: OperationRecord) -> None:
        """The open mark, the record, the message."""
        self._submitted.append(record.id)
        self.opened.add(record.id)
        self.store.put(url_of(layout.open_mark(record.id)), b"")
        self.store.put(url_of(layout.record(record.id)), record)
        self.operations.put_in(encode(Submit(self.settings.fleet, record.id)))

    def cancel(self, operation: str) -> None:
        self.store.put(url_of(layout.cancel(operation)), b"")
        self.operations.put_in(encode(Cancel(self.settings.fleet, operation)))

    def close(self, operation: str) -> None:
        """Remove the open mark."""
        self.store.objects.pop(url_of(layout.open_mark(operation)), None)
        self.opened.discard(operation)

    def records(self) -> list[str]:
        """The operations that were ever submitted."""
        return list(self._submitted)

    def believed(self, operation: str) -> OperationStatus | None:
        """What a reader of the store is told: the status of the highest epoch."""
        objects = self.store.objects
        for epoch in range(self.epoch, 0, -1):
            status: OperationStatus | None = objects.get(url_of(layout.status(operation, epoch)))
            if status is not None:
                return status
        return None

    def all_ended(self) -> bool:
        """Every operation has ended and was cleaned up after."""
        return not self.opened

    # ---- coordinators

    @property
    def epoch(self) -> int:
        """The highest that anybody created."""
        while url_of(layout.leader(self._epoch + 1)) in self.store.objects:
            self._epoch += 1
        return self._epoch

    def terms(self) -> list[Term]:
        """Of those who lead, or think they do."""
        return [each.term for each in self.coordinators if each.term is not None]

    def start_coordinator(self) -> SimCoordinator:
        self._n_made += 1
        coordinator = self._cast.coordinator(self, f"c{self._n_made}")
        self.coordinators.append(coordinator)
        coordinator.start()
        return coordinator

    def coordinator_died(self, coordinator: SimCoordinator) -> None:
        self.coordinators.remove(coordinator)
        if not self.coordinators:
            self.at(self.habits.restart_s, self._restart_coordinator)

    def _restart_coordinator(self) -> None:
        if not self.coordinators:
            self.start_coordinator()

    def is_known_dead(self, name: str) -> bool:
        return self._is_one_machine and all(each.name != name for each in self.coordinators)

    def crash_coordinator(self) -> None:
        """It dies, and another takes over from what the store holds."""
        self.random.choice(self.coordinators).die() if self.coordinators else None

    def stall_coordinator(self) -> None:
        """It stops for a while and a stand-by takes over; when it goes on it does not know yet."""
        for coordinator in self.coordinators:
            if coordinator.term is not None:
                coordinator.freeze(self.habits.coordinator_stall_s, stops_clock=self.draws(0.3))
        if len(self.coordinators) < 2:
            self.start_coordinator()

    def start_rival(self) -> None:
        """Somebody starts a coordinator that takes the lead from one that is well."""
        if len(self.coordinators) < 3:
            self.start_coordinator().ignores_leader = True

    # ---- services

    def make_queues(self) -> None:
        for queue in (self.jobs, self.completions, self.operations, self.dead_jobs):
            queue.ensure()

    def lose_queue(self) -> None:
        """The queue service forgets everything."""
        for queue in (self.jobs, self.completions, self.operations, self.dead_jobs):
            queue.lose()

    @property
    def outage_left_s(self) -> float:
        return max(0.0, self.store.away_until - self.now)

    def store_is_away(self) -> None:
        away_s = self.habits.outage_s * self.random.random()
        self.store.away_until = max(self.store.away_until, self.now + away_s)
        self._outage_began = self._outage_began if self.now < self._outage_until else self.now
        self._outage_until = self.store.away_until
        self.longest_outage_s = max(self.longest_outage_s, self._outage_until - self._outage_began)

    # ---- workers

    def start_worker(self, name: str) -> SimWorker:
        self._n_made += 1
        worker = self._cast.worker(self, name, f"i{self._n_made}")
        self.workers = [*(other for other in self.workers if other.name != name), worker]
        worker.start()
        return worker

    def _restart_worker(self, name: str) -> None:
        self.start_worker(name)

    def worker_died(self, worker: SimWorker) -> None:
        self._hanging.discard(worker.incarnation)
        for job in worker.roster.jobs:
            self.ledger.trouble(job)
        if not worker.is_stopping:
            self.at(self.habits.restart_s, lambda: self._restart_worker(worker.name))

    def may_hang(self, worker: SimWorker) -> bool:
        """Half of a fleet at most, and one slot of each worker: with every slot taken for ever, nothing could go on."""
        if worker.incarnation in self._hanging or 2 * len(self._hanging) + 2 > len(self.workers):
            return False
        self._hanging.add(worker.incarnation)
        return True

    def drain(self, worker: SimWorker) -> None:
        """SIGTERM; nothing comes in its place."""
        worker.stop()

    def drain_one(self) -> None:
        """A node is taken away with notice, and another of that name comes."""
        worker = self.random.choice(self.workers) if self.workers else None
        if worker is not None and worker.is_alive and not worker.is_stopping:
            worker.stop()
            self.at(self.habits.restart_s, lambda: self._restart_worker(worker.name))
