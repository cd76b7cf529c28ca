"""A world for the real scheduler: virtual time, a queue with SQS's habits, a store, and workers that misbehave.

Everything is drawn from one seeded generator, so a seed replays exactly. The world keeps what the scheduler must not know:
which outputs truly exist, how often each message was delivered, who is alive.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from coordinator.core.commands import CleanUp, Command, SavePlan, SendJobs, WriteStatus
from coordinator.core.events import (
    Adopted,
    CancelAsked,
    CleanedUp,
    DeadLettered,
    Event,
    Heard,
    PlanSaved,
    QueueLost,
    SendFailed,
    Ticked,
)
from coordinator.core.plans import Plan
from coordinator.core.scheduler import Scheduler
from coordinator.core.settings import SchedulerSettings
from coordinator.core.stages import CheckStage, GunzipStage, PublishStage, ScanStage
from tilefleet.errors import ErrorInfo
from tilefleet.messages import (
    BytesFact,
    CheckFacts,
    CsvFacts,
    Facts,
    Job,
    JobDone,
    JobFailed,
    JobTimes,
    ScanCsv,
    WorkerBye,
    WorkerHeartbeat,
    WorkerHello,
    WorkerMessage,
)
from tilefleet.records import OperationRecord, OperationStatus

JobKey = tuple[str, str, int]


@dataclass
class Habits:
    """How badly the world behaves. Probabilities are per occasion; times in seconds."""

    job_s: float = 2.0
    is_steady: bool = False
    slow_worker: float = 0.1
    slowness: float = 20.0
    die_in_job: float = 0.02
    stall: float = 0.01
    stall_s: float = 60.0
    fail: float = 0.02
    duplicate: float = 0.05
    redeliver_deleted: float = 0.02
    lose_message: float = 0.005
    lose_completion: float = 0.01
    swallow_completion: float = 0.005
    delay_s: float = 0.5
    send_fails: float = 0.01
    coordinator_crash_every_s: float = 0.0
    queue_lost_every_s: float = 0.0
    drain_every_s: float = 0.0
    restart_s: float = 3.0


CALM = Habits(
    is_steady=True, slow_worker=0, die_in_job=0, stall=0, fail=0, duplicate=0, redeliver_deleted=0,
    lose_message=0, lose_completion=0, swallow_completion=0, send_fails=0,
)  # fmt: skip


@dataclass
class Message:
    job: Job
    visible: float
    receives: int = 0
    is_deleted: bool = False


@dataclass
class SimWorker:
    name: str
    incarnation: str
    is_slow: bool
    is_alive: bool = True
    stalled_until: float = 0.0
    held: dict[JobKey, int] = field(default_factory=dict)


@dataclass
class Stored:
    """What the store holds of one operation."""

    record: OperationRecord
    plans: dict[str, Plan] = field(default_factory=dict)
    status: OperationStatus | None = None
    is_open: bool = True
    is_cancelled: bool = False


class World:
    """The scheduler and everything around it."""

    def __init__(self, seed: int, habits: Habits, *, n_workers: int, settings: SchedulerSettings) -> None:
        self.random = random.Random(seed)
        self.habits = habits
        self.settings = settings
        self.now = 1000.0
        self.store: dict[str, Stored] = {}
        self.outputs: set[JobKey] = set()
        self.commits: dict[JobKey, int] = {}
        self.queue: list[Message] = []
        self.workers: list[SimWorker] = []
        self.is_checking = True
        self.n_events = 0
        self._effects_until: dict[str, float] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = count()
        self._epoch = count(1)
        self._incarnation = count(1)
        self.scheduler = self._new_scheduler()
        for index in range(n_workers):
            self._start_worker(f"w{index}")
        self._tick()
        for every_s, action in (
            (habits.coordinator_crash_every_s, self.crash_coordinator),
            (habits.queue_lost_every_s, self.lose_queue),
            (habits.drain_every_s, self.replace_worker),
        ):
            if every_s:
                self._repeat(every_s, action)

    # ---- driving

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + delay_s, next(self._ticket), action))

    def run(self, until: Callable[[], bool], limit_s: float) -> None:
        """Let time pass until a condition holds. Raises AssertionError when it does not within ``limit_s``."""
        end = self.now + limit_s
        while not until():
            if not self._agenda or self._agenda[0][0] > end:
                states = {op: stored.status for op, stored in self.store.items()}
                raise AssertionError(f"nothing came of it in {limit_s} s: {states}")
            self.now, _, action = heapq.heappop(self._agenda)
            action()

    def all_ended(self) -> bool:
        return all(not stored.is_open for stored in self.store.values())

    def _repeat(self, every_s: float, action: Callable[[], None]) -> None:
        def again() -> None:
            if self.habits is not CALM:
                action()
                self.at(every_s * self.random.uniform(0.5, 1.5), again)

        self.at(every_s, again)

    def become_calm(self) -> None:
        """Faults stop from now on; what is under way stays as it is."""
        self.habits = CALM

    # ---- the scheduler and its effects

    def _new_scheduler(self) -> Scheduler:
        return Scheduler(self.settings, next(self._epoch))

    def tell(self, event: Event) -> None:
        self.n_events += 1
        scheduler = self.scheduler
        commands = scheduler.handle(event, self.now)
        if self.is_checking:
            scheduler.validate()
            n_out = sum(run.n_out for run in scheduler.operations.values() if not run.is_ended)
            window = self.settings.jobs_per_worker * max(1, len(scheduler.workers), len(self.workers))
            assert n_out <= window, f"{n_out} attempts are out, the window is {window}"
        for command in commands:
            self._carry_out(command, scheduler)

    def _carry_out(self, command: Command, scheduler: Scheduler) -> None:
        """Effects take a moment, keep their order within an operation, and vanish with the coordinator that asked for them."""
        name = command.status.id if isinstance(command, WriteStatus) else getattr(command, "operation", "")

        def later(action: Callable[[], None]) -> None:
            due = max(self._effects_until.get(name, 0.0), self.now) + self.random.uniform(0, 0.05)
            self._effects_until[name] = due
            self.at(due - self.now, lambda: action() if self.scheduler is scheduler else None)

        match command:
            case SavePlan():
                later(lambda: self._save_plan(command))
            case SendJobs():
                later(lambda: self._send(command))
            case WriteStatus():
                later(lambda: self._write_status(command))
            case CleanUp():
                later(lambda: self._clean_up(command))

    def _save_plan(self, command: SavePlan) -> None:
        plans = self.store[command.operation].plans
        self.tell(PlanSaved(command.operation, plans.setdefault(command.plan.part, command.plan)))

    def _send(self, command: SendJobs) -> None:
        if self.random.random() < self.habits.send_fails:
            self.tell(SendFailed(command.jobs))
            return
        for job in command.jobs:
            copies = 1 + (self.random.random() < self.habits.duplicate)
            if self.random.random() < self.habits.lose_message:
                copies = 0
            delay_s = self.random.uniform(0, self.habits.delay_s)
            self.queue += [Message(job, self.now + delay_s) for _ in range(copies)]

    def _write_status(self, command: WriteStatus) -> None:
        stored = self.store[command.status.id]
        if command.status.state == "done":
            self._check_done(stored)
        if stored.status is None or not (stored.status.is_ended and stored.status.epoch == command.status.epoch):
            stored.status = command.status

    def _check_done(self, stored: Stored) -> None:
        plan = stored.plans["main"]
        for stage in plan.stages:
            missing = [index for index in range(stage.n_jobs) if (stored.record.id, stage.name, index) not in self.outputs]
            assert not missing, f"{stored.record.id} is called done without {stage.name}{missing[:5]}"

    def _clean_up(self, command: CleanUp) -> None:
        stored = self.store[command.operation]
        assert stored.status is not None
        assert stored.status.is_ended, f"{command.operation} is cleaned up before its end was written"
        stored.is_open = False
        self.tell(CleanedUp(command.operation))

    def _tick(self) -> None:
        if self.now >= self.scheduler.next_deadline(self.now):
            self.tell(Ticked())
            assert self.scheduler.next_deadline(self.now) > self.now, "the scheduler asks for one tick after another"
        self.at(max(0.05, self.scheduler.next_deadline(self.now) - self.now), self._tick)

    def submit(self, record: OperationRecord) -> None:
        self.store[record.id] = Stored(record)
        self._adopt(record.id)

    def cancel(self, operation: str) -> None:
        self.store[operation].is_cancelled = True
        self.tell(CancelAsked(operation))

    def _adopt(self, operation: str) -> None:
        stored = self.store[operation]
        latest = next((stored.plans[part] for part in ("main", "scan", "gunzip") if part in stored.plans), None)
        stages = latest.stages if latest else ()
        done = {
            stage.name: tuple(index for index in range(stage.n_jobs) if (operation, stage.name, index) in self.outputs)
            for stage in stages
        }
        kinds = (ScanStage, GunzipStage, PublishStage, CheckStage)
        facts = {s.name: {i: facts_of(s.work(i)) for i in done[s.name]} for s in stages if isinstance(s, kinds)}
        self.tell(Adopted(stored.record, dict(stored.plans), done, facts, stored.status, stored.is_cancelled))  # type: ignore[arg-type]

    def crash_coordinator(self) -> None:
        """The coordinator dies and another takes over from what the store holds."""
        self.scheduler = self._new_scheduler()
        for worker in self.workers:
            if worker.is_alive:
                self._hello(worker)
        for operation, stored in self.store.items():
            if stored.is_open:
                self._adopt(operation)

    def lose_queue(self) -> None:
        """The queue service forgets everything."""
        self.queue.clear()
        self.tell(QueueLost())

    # ---- workers

    def _start_worker(self, name: str) -> None:
        incarnation = f"i{next(self._incarnation)}"
        worker = SimWorker(name, incarnation, self.random.random() < self.habits.slow_worker)
        self.workers = [*(other for other in self.workers if other.name != name), worker]
        self._hello(worker)
        self.at(self.random.uniform(0, 1), lambda: self._heartbeat(worker))
        self.at(self.random.uniform(0, 0.1), lambda: self._poll(worker))

    def _hello(self, worker: SimWorker) -> None:
        hello = WorkerHello(
            self.settings.fleet, worker.name, worker.incarnation, "0.1.0", 1, 1 << 30, 2e10, 1e9, 2
        )  # fmt: skip
        self.at(0.01, lambda: self._say(worker, hello))

    def _say(self, worker: SimWorker, message: WorkerMessage) -> None:
        self.at(self.random.uniform(0, self.habits.delay_s), lambda: self.tell(Heard(message)))

    def _heartbeat(self, worker: SimWorker) -> None:
        if not worker.is_alive:
            return
        if self.now >= worker.stalled_until:
            known = {w.hello.incarnation for w in self.scheduler.workers}
            if worker.incarnation not in known:
                self._hello(worker)  # as workerd does when the control object does not list it
            held = tuple((*key, attempt) for key, attempt in worker.held.items())
            self._say(worker, WorkerHeartbeat(self.settings.fleet, worker.name, worker.incarnation, held))
        self.at(self.settings.heartbeat_s, lambda: self._heartbeat(worker))

    def _poll(self, worker: SimWorker) -> None:
        if not worker.is_alive:
            return
        if self.now >= worker.stalled_until and len(worker.held) < 2:
            message = self._receive()
            if message is not None:
                self._work(worker, message)
        self.at(self.random.uniform(0.02, 0.2), lambda: self._poll(worker))

    def _receive(self) -> Message | None:
        visible = [message for message in self.queue if message.visible <= self.now]
        if not visible:
            return None
        message = self.random.choice(visible[:20])
        message.receives += 1
        if message.receives > 5:
            self.queue.remove(message)
            self.at(0.1, lambda: self.tell(DeadLettered(message.job)))
            return None
        message.visible = self.now + self.settings.lease_s
        return message

    def _work(self, worker: SimWorker, message: Message) -> None:
        job, habits = message.job, self.habits
        worker.held[job.key] = job.attempt
        spread = self.random.uniform(0.5, 1.5) if habits.is_steady else self.random.expovariate(1) + 0.02
        duration_s = habits.job_s * spread
        duration_s *= habits.slowness if worker.is_slow else 1
        if job.key in self.outputs:
            duration_s = 0.05  # a worker looks first whether the output is there
        if self.random.random() < habits.die_in_job:
            self.at(self.random.uniform(0, duration_s), lambda: self._die(worker))
        if self.random.random() < habits.stall:
            worker.stalled_until = self.now + habits.stall_s
            duration_s += habits.stall_s
        message.visible = self.now + max(self.settings.lease_s, duration_s + 1)  # the lease is renewed while it lives
        self.at(duration_s, lambda: self._finish(worker, message, duration_s))

    def _finish(self, worker: SimWorker, message: Message, duration_s: float) -> None:
        job = message.job
        if not worker.is_alive:
            message.visible = min(message.visible, self.now + self.settings.lease_s)
            return
        worker.held.pop(job.key, None)
        who = (self.settings.fleet, worker.name, worker.incarnation, job.operation, job.stage, job.index, job.attempt)
        if self.random.random() < self.habits.fail:
            self._say(worker, JobFailed(*who, ErrorInfo("unreachable", "the store was away"), is_retryable=True))
        elif not self._is_dropped(job):
            self.outputs.add(job.key)
            self.commits[job.key] = self.commits.get(job.key, 0) + 1
            done = JobDone(*who, JobTimes(total_s=duration_s), facts=facts_of(job.work))
            if self.random.random() < self.habits.swallow_completion:
                pass  # another coordinator, about to learn that it leads no longer, received it
            elif self.random.random() >= self.habits.lose_completion:
                self._say(worker, done)
            else:
                return  # the completion was lost with the process's socket; the message is not deleted either
        if message in self.queue and self.random.random() >= self.habits.redeliver_deleted:
            self.queue.remove(message)

    def _is_dropped(self, job: Job) -> bool:
        return job.operation in self.scheduler.control(self.now, "", "").cancelled

    def _die(self, worker: SimWorker) -> None:
        if worker.is_alive:
            worker.is_alive = False
            for message in self.queue:
                if message.job.key in worker.held:
                    message.visible = min(message.visible, self.now + self.settings.lease_s)
            self.at(self.habits.restart_s, lambda: self._start_worker(worker.name))

    def replace_worker(self) -> None:
        """A node is taken away with notice, and another of that name comes."""
        worker = self.random.choice(self.workers)
        if worker.is_alive:
            self.drain(worker)
            self.at(self.habits.restart_s, lambda: self._start_worker(worker.name))

    def drain(self, worker: SimWorker) -> None:
        """SIGTERM: what is held is given back at once."""
        worker.is_alive = False
        for message in self.queue:
            if message.job.key in worker.held:
                message.visible = self.now
        self._say(worker, WorkerBye(self.settings.fleet, worker.name, worker.incarnation))


def facts_of(work: object) -> Facts | None:
    """What a job of the simulated workers finds out: CSVs have one row of three int64 per 100 bytes."""
    match work:
        case ScanCsv():
            pieces = range(work.byte0, work.byte1, work.piece_bytes)
            rows = tuple((min(start + work.piece_bytes, work.byte1) - start) // 100 for start in pieces)
            return CsvFacts(rows, 3, "int64")
        case _ if type(work).__name__ == "Gunzip":
            return BytesFact(12_000_000)
        case _ if type(work).__name__ == "Check":
            return CheckFacts(worst=0.1)
        case _ if type(work).__name__ in ("Publish", "Export"):
            return BytesFact(1000)
    return None
