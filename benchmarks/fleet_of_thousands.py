"""The real scheduler before a simulated fleet: thousands of workers in virtual time, on one core.

The rule: the scheduler is the one of production and hears what it would hear there (hello, heartbeats, completions of all
kinds, ten messages to a batch, its beacon and its statuses asked for as often); everything else is as little as that takes.
Speeds differ, some workers are slow throughout and some attempts by themselves, attempts fail, workers vanish and come back
with their leases running out behind them, the queue delivers twice. What a seed draws is drawn again by it.

`python -m benchmarks.fleet_of_thousands WORKERS SIDE [SEED]` runs one with SIDE² jobs and prints its figures as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import NamedTuple

from coordinator.core.commands import CleanUp, Command, SavePlan, SendJobs, WriteStatus
from coordinator.core.events import Adopted, CleanedUp, Event, Heard, PlanSaved, Ticked
from coordinator.core.scheduler import Scheduler
from coordinator.core.settings import SchedulerSettings
from tilefleet.errors import ErrorInfo
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.messages import Job, JobDone, JobFailed, JobTimes, WorkerHeartbeat, WorkerHello
from tilefleet.records import OperationRecord, OperationStatus
from tilefleet.wire import Wire

OPERATION = "0123456789ab"
TILE = 4096
FLOPS_PER_S = 5e10  # a worker's usual speed; with its memory the planner makes one block of one tile, 11 s of work
MEMORY_BYTES = 2 << 30
SLOTS = 2  # one computes, one is fetched meanwhile
POLL_S = 0.02  # between two looks of the coordinator into its queue
BATCH = 10
CHECK_S = 0.05  # to find that a job's output is there already
FAILED = ErrorInfo("unreachable", "the store was away")


@dataclass(frozen=True)
class Habits:
    """How badly the fleet behaves; probabilities are per occasion."""

    spread: float = 0.3
    """A worker's speed is its usual one, more or less by up to this share."""
    slow_worker: float = 0.01
    slow_attempt: float = 0.005
    slowness: float = 10.0
    fail: float = 0.005
    duplicate: float = 0.001
    swallow: float = 1e-5
    """A message is hidden from all by a poll that was dropped, until its lease ends."""
    lifetime_s: float = 7200.0
    """Mean, until a worker vanishes without a word."""
    restart_s: float = 60.0


class Worker:
    """One incarnation."""

    __slots__ = ("held", "hello", "incarnation", "is_alive", "jobs", "n_beats", "name", "news", "speed", "times")

    def __init__(self, name: str, incarnation: str, speed: float, fleet: str) -> None:
        self.name, self.incarnation, self.speed = name, incarnation, speed
        self.hello = WorkerHello(
            fleet, name, incarnation, "0", 2, MEMORY_BYTES, speed * FLOPS_PER_S, 1e9, SLOTS
        )  # fmt: skip
        self.jobs: deque[Job] = deque()
        """The first is computed."""
        self.held: tuple[tuple[str, str, int, int], ...] = ()
        """The same, as its heartbeats say it."""
        self.times: JobTimes | None = None
        """Of any of its jobs: all are of one size."""
        self.is_alive = True
        self.news = False
        self.n_beats = 0


class Figures(NamedTuple):
    """What a run took, of real time and of the fleet's."""

    n_workers: int
    n_jobs: int
    events: int
    wall_s: float
    cpu_s: float
    core_s: float
    beacon_s: float
    makespan_s: float
    ideal_s: float
    losses: int
    failures: int
    attempts: int
    in_vain: int
    """Attempts that found their output there already."""
    statuses: int


class Fleet:
    """The queue, the workers and the clock."""

    def __init__(self, n_workers: int, side: int, seed: int = 1, habits: Habits | None = None) -> None:
        self.random = random.Random(seed)
        self.habits = habits or Habits()
        self.settings = SchedulerSettings("bench", "s3://fleet/store")
        self.scheduler = Scheduler(self.settings, epoch=1)
        self.now = 1000.0
        self.side = side
        self.n_workers = n_workers
        self.n_jobs = side * side
        self.events = self.losses = self.failures = self.attempts = self.in_vain = self.statuses = 0
        self.core_s = self.beacon_s = self.ideal_s = 0.0
        self.status: OperationStatus | None = None
        self._committed = bytearray(self.n_jobs)
        self._agenda: defaultdict[int, list[tuple[int, Worker, Job | int]]] = defaultdict(list)
        """What happens before which of the coordinator's looks."""
        self._n_looks = 0
        self._n_incarnations = 0
        self._queue: deque[Job] = deque()
        self._hungry: deque[Worker] = deque()
        self._said: list[Wire] = []
        self._job_s = 0.0
        self._beacon = self.now
        self._deadline = self.now

    # ---- the clock

    def run(self) -> Figures:
        """From the submission to the end of the operation."""
        wall, cpu = time.perf_counter(), time.process_time()
        workers = [self._worker(f"w{index:05}") for index in range(self.n_workers)]
        for worker in workers:
            self._begin(worker)
        self._turn([])
        began = self.now
        self._turn([Adopted(record_of(self.side))])
        while self.status is None:
            self._step()
        self.ideal_s = self.n_jobs * self._job_s / sum(worker.speed for worker in workers)
        return Figures(
            self.n_workers, self.n_jobs, self.events, time.perf_counter() - wall, time.process_time() - cpu, self.core_s,
            self.beacon_s, self.now - began, self.ideal_s, self.losses, self.failures, self.attempts, self.in_vain, self.statuses,
        )  # fmt: skip

    def _step(self) -> None:
        """What happens until the coordinator looks again, and what it makes of it."""
        self.now += POLL_S
        self._n_looks += 1
        now = self.now
        for action, worker, what in self._agenda.pop(self._n_looks, ()):
            _ACTIONS[action](self, worker, what)
        if self._said or now >= self._deadline:
            said, self._said = self._said, []
            self._turn([Heard(message) for message in said])  # type: ignore[arg-type]
        if now >= self._beacon:
            self._beacon = now + self.settings.beacon_s
            clock = time.process_time()
            self.scheduler.control(now, "bench", "0")
            self.beacon_s += time.process_time() - clock

    def _at(self, delay_s: float, action: int, worker: Worker, what: Job | int = 0) -> None:
        self._agenda[self._n_looks + max(1, ceil(delay_s / POLL_S))].append((action, worker, what))

    # ---- the coordinator

    def _turn(self, events: list[Event]) -> None:
        """Batches of ten, as the shell would hand them on."""
        self.events += len(events)
        commands: list[Command] = []
        clock = time.process_time()
        for start in range(0, max(1, len(events)), BATCH):
            commands += self.scheduler.handle_all(events[start : start + BATCH] or [Ticked()], self.now)
        self._deadline = self.scheduler.next_deadline(self.now)
        self.core_s += time.process_time() - clock
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case SendJobs():
                for job in command.jobs:
                    self._send(job)
            case WriteStatus():
                self.statuses += 1
                self.status = command.status if command.status.is_ended else None
            case SavePlan():
                stage = command.plan.stages[0]
                self._job_s = stage.job_s
                assert stage.n_jobs == self.n_jobs, f"planned were {stage.n_jobs} jobs"
                self._turn([PlanSaved(OPERATION, command.plan)])
            case CleanUp():
                self._turn([CleanedUp(OPERATION)])

    # ---- the queue

    def _send(self, job: Job) -> None:
        self.attempts += 1
        if self.random.random() < self.habits.swallow:
            self._at(self.settings.lease_s, RETURN, NOBODY, job)
            return
        self._deliver(job)
        if self.random.random() < self.habits.duplicate:
            self._deliver(job)

    def _deliver(self, job: Job) -> None:
        while self._hungry:
            worker = self._hungry.popleft()
            if worker.is_alive:
                self._take(worker, job)
                return
        self._queue.append(job)

    # ---- workers

    def _worker(self, name: str) -> Worker:
        speed = self.random.uniform(1 - self.habits.spread, 1 + self.habits.spread)
        if self.random.random() < self.habits.slow_worker:
            speed /= self.habits.slowness
        self._n_incarnations += 1
        return Worker(name, f"i{self._n_incarnations:x}", speed, self.settings.fleet)

    def _begin(self, worker: Worker) -> None:
        self._said.append(worker.hello)
        self._at(self.random.random() * self.settings.heartbeat_s, BEAT, worker)
        self._at(self.random.expovariate(1 / self.habits.lifetime_s), VANISH, worker)
        for _ in range(SLOTS):
            self._poll(worker)

    def _poll(self, worker: Worker) -> None:
        if self._queue:
            self._take(worker, self._queue.popleft())
        else:
            self._hungry.append(worker)

    def _take(self, worker: Worker, job: Job) -> None:
        worker.jobs.append(job)
        worker.held = (*worker.held, (job.operation, job.stage, job.index, job.attempt))
        if len(worker.jobs) == 1:
            self._compute(worker, job)
        if not worker.news:  # the coordinator is to know soon who has it
            worker.news = True
            worker.n_beats += 1
            self._at(self.settings.heartbeat_s / 4, BEAT, worker, worker.n_beats)

    def _compute(self, worker: Worker, job: Job) -> None:
        if job.stage == "multiply" and not self._committed[job.index]:
            slowness = self.habits.slowness if self.random.random() < self.habits.slow_attempt else 1.0
            self._at(self._job_s * slowness / worker.speed, FINISH, worker, job)
        else:
            self.in_vain += job.stage == "multiply"
            self._at(CHECK_S, FINISH, worker, job)

    def _finish(self, worker: Worker, what: Job | int) -> None:
        if not worker.is_alive or isinstance(what, int):
            return
        job = worker.jobs.popleft()
        worker.held = worker.held[1:]
        whose = (self.settings.fleet, worker.name, worker.incarnation, job.operation, job.stage, job.index, job.attempt)
        if self.random.random() < self.habits.fail:
            self.failures += 1
            self._said.append(JobFailed(*whose, FAILED, True))
        else:
            if job.stage == "multiply":
                self._committed[job.index] = 1
            if worker.times is None:
                took_s = self._job_s / worker.speed
                worker.times = JobTimes(took_s, 0.1, 1.0, took_s, 0.1, 0.5, 10**9, 10**8, 10**12)
            self._said.append(JobDone(*whose, worker.times, 1e-3))
        if worker.jobs:
            self._compute(worker, worker.jobs[0])
        self._poll(worker)

    def _beat(self, worker: Worker, number: Job | int) -> None:
        if not worker.is_alive or number != worker.n_beats:
            return
        worker.news = False
        self._said.append(WorkerHeartbeat(self.settings.fleet, worker.name, worker.incarnation, worker.held))
        self._at(self.settings.heartbeat_s, BEAT, worker, number)

    def _vanish(self, worker: Worker, _: Job | int) -> None:
        """What it held comes back when the leases end; it itself under its name, as another."""
        worker.is_alive = False
        self.losses += 1
        for job in worker.jobs:
            self._at(self.random.uniform(2 / 3, 1) * self.settings.lease_s, RETURN, NOBODY, job)
        self._at(self.random.uniform(0.1, 2) * self.habits.restart_s, COME_BACK, worker)

    def _come_back(self, worker: Worker, _: Job | int) -> None:
        self._begin(self._worker(worker.name))

    def _return(self, _: Worker, what: Job | int) -> None:
        if not isinstance(what, int):
            self._deliver(what)


NOBODY = Worker("nobody", "i0", 1.0, "bench")
FINISH, BEAT, VANISH, COME_BACK, RETURN = range(5)
_ACTIONS = (Fleet._finish, Fleet._beat, Fleet._vanish, Fleet._come_back, Fleet._return)


def record_of(side: int) -> OperationRecord:
    """A product of ``side`` × ``side`` blocks."""

    def zarr(name: str, shape: tuple[int, int]) -> MatrixRef:
        return MatrixRef(f"s3://data/{name}.zarr", "zarr", shape, "float64", (TILE, TILE), is_ours=True)

    n, k = side * TILE, 4 * TILE
    a, b = Operand(zarr("a", (n, k))), Operand(zarr("b", (k, n)))
    return OperationRecord(OPERATION, "multiply", a, b, tile=(TILE, TILE))


def main(n_workers: str, side: str, seed: str = "1") -> None:
    """One fleet in this process alone, so that its memory is nobody else's."""
    before_bytes = peak_bytes()
    figures = Fleet(int(n_workers), int(side), int(seed)).run()
    print(json.dumps(figures._asdict() | {"before_bytes": before_bytes, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """The most memory that this program ever had. Not ``ru_maxrss`` on Linux, which keeps what the parent had when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    main(*sys.argv[1:])
