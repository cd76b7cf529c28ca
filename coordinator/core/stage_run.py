"""One stage on its way: a bit for each job that is done, and the attempts that are out. Nothing else grows with the plan."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from statistics import median

import msgspec

from coordinator.core.stages import Stage
from tilefleet.messages import Facts

SAMPLE = 64  # latest durations the median is taken from


class Attempt(msgspec.Struct):
    """The newest try at a job that is out: in the queue, or with a worker."""

    number: int
    sent: float
    holder: str | None = None
    """Incarnation of the worker that reported to hold it."""
    held_since: float = 0.0
    is_doubled: bool = False
    """A second one was sent because this one took too long."""


class StageRun:
    """Which jobs of a stage are done, out, or waiting to be tried again."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.n_jobs = stage.n_jobs
        self.n_done = 0
        self.out: dict[int, Attempt] = {}
        self.facts: dict[int, Facts] = {}
        self.first_sent: float | None = None
        self.last_done: float | None = None
        self._done = bytearray((self.n_jobs + 7) // 8)
        self._cursor = 0
        self._again: list[tuple[float, int]] = []
        self._tries: dict[int, int] = {}
        self._durations: list[float] = []

    @property
    def is_finished(self) -> bool:
        return self.n_done == self.n_jobs

    @property
    def is_all_sent(self) -> bool:
        """No job is waiting for its first attempt."""
        return self._cursor >= self.n_jobs

    def is_done(self, index: int) -> bool:
        return bool(self._done[index >> 3] & (1 << (index & 7)))

    def mark_done(self, index: int, now: float) -> bool:
        """Count a job as done; False when it was already, or does not exist."""
        if not 0 <= index < self.n_jobs or self.is_done(index):
            return False
        attempt = self.out.pop(index, None)
        if attempt is not None and attempt.held_since:
            self._durations = [*self._durations[-SAMPLE + 1 :], now - attempt.held_since]
        self._tries.pop(index, None)
        self._done[index >> 3] |= 1 << (index & 7)
        self.n_done += 1
        self.last_done = now
        return True

    def mark_found(self, indices: Iterable[int]) -> None:
        """Jobs whose output lay in the store when the operation was taken up."""
        for index in indices:
            if 0 <= index < self.n_jobs and not self.is_done(index):
                self._done[index >> 3] |= 1 << (index & 7)
                self.n_done += 1

    def has_ready(self, now: float) -> bool:
        """True when ``take`` would give a job."""
        self._skip_done()
        return not self.is_all_sent or (bool(self._again) and self._again[0][0] <= now)

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

    def retry(self, index: int, due: float) -> int:
        """Have a job tried again from ``due`` on; how many attempts it has had."""
        self.out.pop(index, None)
        self._tries[index] = self._tries.get(index, 0) + 1
        heapq.heappush(self._again, (due, index))
        return self._tries[index]

    def return_unsent(self, index: int, due: float) -> None:
        """A job that did not get into the queue: try again, without counting an attempt."""
        if self.out.pop(index, None) is not None:
            heapq.heappush(self._again, (due, index))

    def next_due(self) -> float:
        """When the next job that is to be tried again may go out."""
        return self._again[0][0] if self._again else float("inf")

    def median_s(self) -> float | None:
        """Median time jobs were held, once half of the stage is done."""
        return median(self._durations) if 2 * self.n_done >= self.n_jobs and self._durations else None

    def unfinished(self) -> Iterator[int]:
        """Jobs neither done nor out, for checks."""
        return (index for index in range(self.n_jobs) if not self.is_done(index) and index not in self.out)

    def waiting_again(self) -> set[int]:
        """Jobs that wait for another attempt."""
        return {index for _, index in self._again}

    def _skip_done(self) -> None:
        while self._again and (self.is_done(self._again[0][1]) or self._again[0][1] in self.out):
            heapq.heappop(self._again)
        while self._cursor < self.n_jobs and (self.is_done(self._cursor) or self._cursor in self.out):
            self._cursor += 1
