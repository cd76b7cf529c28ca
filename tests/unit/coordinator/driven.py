"""A scheduler driven by hand: virtual time, effects that succeed at once, workers that say what the test says."""

from __future__ import annotations

from typing import Any, TypeVar

from coordinator.core.commands import Bury, CleanUp, Command, SavePlan, SendJobs, WriteStatus
from coordinator.core.events import Adopted, CleanedUp, Event, Heard, PlanSaved, Ticked
from coordinator.core.scheduler import Scheduler
from coordinator.core.settings import SchedulerSettings
from tests.simulation.work import facts_of
from tilefleet.errors import ErrorInfo
from tilefleet.facts import Facts
from tilefleet.messages import Job, JobDone, JobFailed, JobTimes, WorkerBye, WorkerHeartbeat, WorkerHello
from tilefleet.records import OperationRecord, OperationStatus, RandomSpec

T = TypeVar("T")
START_S = 1000.0


def random_record(op: str = "0123456789ab", n_jobs: int = 8) -> OperationRecord:
    """An operation of ``n_jobs`` jobs of a tile each, and a publish."""
    return OperationRecord(op, "random", random=RandomSpec((256 * n_jobs, 256), "float64", "0", "1", 7), tile=(256, 256))


class Driven:
    """The scheduler, its clock and what it asked for. ``say`` answers like the shell; jobs wait in ``sent``."""

    def __init__(self, n_workers: int = 1, **settings: Any) -> None:
        self.settings = SchedulerSettings("test", "file:///store", **settings)
        self.scheduler = Scheduler(self.settings, epoch=1)
        self.now = START_S
        self.sent: list[Job] = []
        self.saved: list[SavePlan] = []
        self.cleaned: list[CleanUp] = []
        self.buried: list[Bury] = []
        self.statuses: dict[str, OperationStatus] = {}
        self.n_handled = 0
        self.is_cleaning_slow = False
        for index in range(n_workers):
            self.hello(f"w{index}", f"i{index}")

    def say(self, event: Event) -> None:
        """Tell the scheduler, carry out what it wants, check its rules."""
        self.n_handled += 1
        commands = self.scheduler.handle_all((event,), self.now)
        self.scheduler.validate()
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case SendJobs():
                self.sent += command.jobs
            case SavePlan():
                self.saved.append(command)
                self.say(PlanSaved(command.operation, command.plan))
            case WriteStatus():
                self.statuses[command.status.id] = command.status
            case Bury():
                self.buried.append(command)
            case CleanUp():
                self.cleaned.append(command)
                if not self.is_cleaning_slow:
                    self.say(CleanedUp(command.operation))

    def wait(self, seconds: float, *, is_alive: bool = True) -> None:
        """Let time pass as the shell does: by its deadlines. Workers beat every second unless they are not alive."""
        end, beat = self.now + seconds, self.now + 1.0
        while (due := min(self.scheduler.next_deadline(self.now), beat)) < end:
            self.now = max(self.now, due)
            if self.now >= beat:
                beat += 1.0
                for worker in list(self.scheduler.workers) if is_alive else ():
                    self.beat(worker.hello.worker, worker.hello.incarnation, held=tuple(worker.held))
            else:
                self.say(Ticked())
        self.now = end

    def adopt(self, record: OperationRecord, **known: Any) -> OperationRecord:
        self.say(Adopted(record, **known))
        self.wait(0.3)
        return record

    def hello(self, name: str = "w0", incarnation: str = "i0", memory_bytes: int = 1 << 30) -> None:
        self.say(Heard(WorkerHello("test", name, incarnation, "0", 1, memory_bytes, 2e10, 1e9, 2)))

    def bye(self, name: str = "w0", incarnation: str = "i0", reason: str = "") -> None:
        self.say(Heard(WorkerBye("test", name, incarnation, reason)))

    def beat(self, name: str = "w0", incarnation: str = "i0", held: tuple[Any, ...] = ()) -> None:
        self.say(Heard(WorkerHeartbeat("test", name, incarnation, held)))

    def hold(self, *jobs: Job, name: str = "w0", incarnation: str = "i0") -> None:
        """A worker holds these."""
        self.beat(name, incarnation, tuple((*job.key, job.attempt) for job in jobs))

    def done(self, job: Job, *, facts: Facts | None = None, total_s: float = 1.0, check_worst: float | None = None) -> None:
        found = facts or facts_of(job.work)
        times = JobTimes(total_s=total_s, computed_s=0.5, bytes_read=3, bytes_written=2, flops=1)
        self.say(Heard(JobDone("test", "w0", "i0", *job.key, job.attempt, times, check_worst, found)))

    def failed(
        self, job: Job, *, is_retryable: bool = True, code: str = "unreachable", name: str = "w0", incarnation: str = "i0"
    ) -> None:
        error = ErrorInfo(code, "it did not work")
        self.say(Heard(JobFailed("test", name, incarnation, *job.key, job.attempt, error, is_retryable)))

    def take(self, count: int = 1) -> list[Job]:
        """The jobs sent longest ago."""
        taken, self.sent = self.sent[:count], self.sent[count:]
        assert len(taken) == count
        return taken

    def work_off(self) -> None:
        """Finish whatever is sent, until nothing more comes."""
        while self.sent:
            self.done(self.take()[0])
            self.wait(0.5)

    def state(self, record: OperationRecord) -> str:
        return self.statuses[record.id].state
