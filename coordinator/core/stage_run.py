"""One stage on its way: a bit for each job that is done, and the attempts that are out. Nothing else grows with the plan."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from statistics import median

import msgspec

from coordinator.core.stages import Stage
from tilefleet.facts import Facts
from tilefleet.messages import Job, JobTimes

SAMPLE = 64  # latest durations the median is taken from


class Attempt(msgspec.Struct, gc=False):
    """The newest try at a job that is out: in the queue, or with a worker."""

    number: int
    sent: float
    holder: str | None = None
    """Incarnation of the worker that reported to hold it."""
    held_since: float = 0.0

    @property
    def since(self) -> float:
        """When it was sent, or when a worker took it: since then nothing was heard that changes what it waits for."""
        return self.sent if self.holder is None else self.held_since


class StageRun:
    """Which jobs of a stage are done, out, or waiting to be tried again."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.n_jobs = stage.n_jobs
        self.n_done = 0
        self.out: dict[int, Attempt] = {}
        """By job, in the order of ``since``: whoever looks for those that take too long need not look at the others."""
        self.facts: dict[int, Facts] = {}
        self.first_sent: float | None = None
        self.last_done: float | None = None
        self.has_second_attempts = False
        self._done = bytearray((self.n_jobs + 7) // 8)
        self._cursor = 0
        self._doubled: dict[int, int] = {}
        """How often, of jobs that took too long."""
        self._again: list[tuple[float, int]] = []
        self._tries: dict[int, int] = {}
        self._halvings: dict[int, int] = {}
        """Of jobs for which a worker had too little memory, or may have had."""
        self._durations: deque[float] = deque(maxlen=SAMPLE)
        self._busy: deque[float] = deque(maxlen=SAMPLE)

    @property
    def is_finished(self) -> bool:
        return self.n_done == self.n_jobs

    @property
    def is_all_sent(self) -> bool:
        """No job is waiting for its first attempt."""
        return self._cursor >= self.n_jobs

    def is_done(self, index: int) -> bool:
        return bool(self._done[index >> 3] & (1 << (index & 7)))

    def is_held(self, index: int) -> bool:
        """Whether a worker that lives says that it has the newest attempt."""
        return index in self.out and self.out[index].holder is not None

    def hold(self, index: int, number: int, holder: str, now: float) -> None:
        """A worker says that it has that attempt, which counts if it is the newest and out. Of two that say so by turns
        (a message delivered twice), the first says since when."""
        attempt = self.out.get(index)
        if attempt is None or attempt.number != number:
            return
        if attempt.holder is None:
            attempt.held_since = now
            self.out[index] = self.out.pop(index)
        attempt.holder = holder

    def let_go(self, index: int, number: int, holder: str, now: float) -> None:
        """A worker has that attempt no longer: it counts as nobody's from now on, unless it is another's."""
        if self.is_held_by(index, number, holder):
            attempt = self.out.pop(index)
            attempt.holder, attempt.sent = None, now
            self.out[index] = attempt

    def is_held_by(self, index: int, number: int, holder: str) -> bool:
        """Whether that attempt is the newest, and that worker's."""
        attempt = self.out.get(index)
        return attempt is not None and attempt.number == number and attempt.holder == holder

    def out_longer_than(self, patience_s: float, now: float) -> Iterator[tuple[int, Attempt]]:
        """Attempts of which nothing was heard for longer."""
        for index, attempt in self.out.items():
            if now - attempt.since <= patience_s:
                return
            yield index, attempt

    def mark_done(self, index: int, now: float) -> bool:
        """Count a job as done; False when it was already, or does not exist."""
        if not 0 <= index < self.n_jobs or self.is_done(index):
            return False
        self.out.pop(index, None)
        self._tries.pop(index, None)
        self._halvings.pop(index, None)
        self._doubled.pop(index, None)
        self._done[index >> 3] |= 1 << (index & 7)
        self.n_done += 1
        self.last_done = now
        return True

    def note_times(self, times: JobTimes) -> None:
        """How long a finished attempt took in its worker, for the median, without what it waited for others there; and how long
        it kept it from doing another, as fetching and committing overlap with other jobs' computing."""
        self._durations.append(times.total_s - times.waited_s)
        self._busy.append(max(times.computed_s + times.checked_s, times.fetched_s + times.committed_s))

    @property
    def remaining_worker_s(self) -> float:
        """What is left, in time of one worker: by the latest jobs, before there are any by the prediction."""
        job_s = sum(self._busy) / len(self._busy) if self._busy else self.stage.job_s
        return (self.n_jobs - self.n_done) * job_s

    def mark_found(self, indices: Iterable[int]) -> None:
        """Jobs whose output lay in the store when the operation was taken up."""
        for index in indices:
            if 0 <= index < self.n_jobs and not self.is_done(index):
                self._done[index >> 3] |= 1 << (index & 7)
                self.n_done += 1

    def has_ready(self, now: float) -> bool:
        """True when ``take`` would give a job."""
        self._skip_done()
        return self._cursor < self.n_jobs or (bool(self._again) and self._again[0][0] <= now)

    def take(self, now: float) -> tuple[int, int]:
        """The next job to send and the number of its attempt; it is out from now on."""
        self._skip_done()
        if self._again and self._again[0][0] <= now:
            index = heapq.heappop(self._again)[1]
        else:
            index, self._cursor = self._cursor, self._cursor + 1
        number = self._tries.get(index, 0)
        self.out[index] = Attempt(number, now)
        self.first_sent = now if self.first_sent is None else self.first_sent
        return index, number

    def job(self, fleet: str, operation: str, epoch: int, index: int, number: int) -> Job:
        """The message of an attempt."""
        stage = self.stage
        halvings = self._halvings.get(index, 0)
        return Job(fleet, operation, stage.name, index, number, epoch, stage.peak_bytes, stage.work(index), halvings)

    def retry(self, index: int, due: float) -> int:
        """Have a job tried again from ``due`` on; how many attempts came to nothing, which those do not that are only slow."""
        self.has_second_attempts = True
        self.out.pop(index, None)
        self._tries[index] = self._tries.get(index, 0) + 1
        heapq.heappush(self._again, (due, index))
        return self._tries[index] - self.n_doubled(index)

    def halve(self, index: int) -> None:
        """Have the next attempt hold less at a time."""
        self._halvings[index] = self._halvings.get(index, 0) + 1

    def double(self, index: int, now: float) -> None:
        """Send a second attempt beside the one that is out, which still counts when it comes first."""
        self.retry(index, now)
        self._doubled[index] = self.n_doubled(index) + 1

    def n_doubled(self, index: int) -> int:
        """How often an attempt was sent beside one that took too long."""
        return self._doubled.get(index, 0)

    def return_unsent(self, index: int, due: float) -> None:
        """A job that did not get into the queue: try again, without counting an attempt."""
        self.has_second_attempts = True
        if self.out.pop(index, None) is not None:
            heapq.heappush(self._again, (due, index))

    def newest_attempt(self, index: int) -> int:
        """Number of the attempt at a job that is out, or to be sent next."""
        return self._tries.get(index, 0)

    def next_due(self) -> float:
        """When the next job that is to be tried again may go out; infinite when there is none."""
        self._skip_done()
        return self._again[0][0] if self._again else float("inf")

    def median_s(self) -> float | None:
        """Median time jobs took, once half of the stage is done."""
        return median(self._durations) if 2 * self.n_done >= self.n_jobs and self._durations else None

    def validate(self) -> None:
        """Every job is done, out, waiting to be tried again, or not sent yet; none is two of these."""
        again = {index for _, index in self._again}
        n_done = 0
        for index in range(self.n_jobs):
            is_done, is_out = self.is_done(index), index in self.out
            n_done += is_done
            if is_done and is_out:
                raise AssertionError(f"{self.stage.name}[{index}] is done and out")
            if not (is_done or is_out or index in again or index >= self._cursor):
                raise AssertionError(f"{self.stage.name}[{index}] is lost")
        if n_done != self.n_done:
            raise AssertionError(f"{self.stage.name} counts {self.n_done} jobs done, and {n_done} are")

    def _skip_done(self) -> None:
        while self._again and (self.is_done(self._again[0][1]) or self._again[0][1] in self.out):
            heapq.heappop(self._again)
        index, n_jobs, done, out = self._cursor, self.n_jobs, self._done, self.out
        while index < n_jobs and (done[index >> 3] & (1 << (index & 7)) or index in out):
            index += 1
        self._cursor = index
