"""The workers as their messages show them: who lives, what each holds, what the fleet can do."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from coordinator.core.cost import FleetFacts
from coordinator.core.doubts import Doubts
from tilefleet.messages import JobFailed, WorkerHello
from tilefleet.records import WorkerView

Held = tuple[str, str, int, int]
"""(operation, stage, index, attempt)."""

GATHER_S = 0.2  # after a worker appears, wait that long for its fellows before planning for them
HEARD_STEP_S = 4.0  # people are told to within that when a worker was heard, which is less than a heartbeat
STOOD_STILL_S = 2.0  # between two looks for silent workers, made every second: this process was stopped, swapped out or starved
HEARING_S = 2.0  # until what was said while nobody could be heard has come out of the queue
MOST_DEPARTED = 200  # of those that left for a reason; the keeper looks every quarter of a minute
GATHER_AT_MOST_S = 3.0  # but no longer after the first: of a thousand nodes one starts at any moment


class Worker(msgspec.Struct):
    """One incarnation of a worker."""

    hello: WorkerHello
    incarnation: str
    """As in its hello: asked at every message."""
    heard: float
    held: tuple[Held, ...] = ()
    heartbeat: float = 0.0
    """When ``held`` was last reported."""
    _view: WorkerView | None = None
    _viewed: tuple[Held, ...] = ()
    _viewed_heard: float = float("-inf")
    """What was last shown, and what it held and when it was last heard then."""

    def view(self, wall_offset: float) -> WorkerView:
        """For people. Made anew when it holds something else, or was heard since by more than ``HEARD_STEP_S``: of ten thousand
        workers, most show what they showed a beacon ago."""
        view, heard, held = self._view, self.heard, self.held
        is_same = view is not None and (held is self._viewed or held == self._viewed)
        if view is not None and is_same and heard - self._viewed_heard < HEARD_STEP_S:
            return view
        jobs = view.jobs if view is not None and is_same else _described(held)
        hello = self.hello
        view = self._view = WorkerView(
            hello.worker, hello.incarnation, hello.version, hello.cores, hello.memory_bytes, hello.flops_per_s,
            hello.bytes_per_s, heard + wall_offset, len(jobs), jobs,
        )  # fmt: skip
        self._viewed, self._viewed_heard = held, heard
        return view

    def introduce(self, hello: WorkerHello) -> None:
        """The same incarnation says again who it is."""
        self.hello, self._view = hello, None


def _described(held: tuple[Held, ...]) -> tuple[str, ...]:
    return tuple([f"{operation} {stage}/{index}" for operation, stage, index, _ in sorted(held)])


class Workers:
    """The table of live workers, by name. A new incarnation takes its predecessor's place."""

    def __init__(self) -> None:
        self._by_name: dict[str, Worker] = {}
        self._sorted: list[Worker] | None = None
        """All, by name; None since one came or went."""
        self._oldest = self._newest = float("-inf")
        """When a worker was first added where none was, and when one was last."""
        self.departed: dict[str, str] = {}
        """Why workers are gone that had a reason, such as a spot instance that is taken away; until one of that name is there."""
        self._doubts = Doubts()
        self._set_aside: set[str] = set()
        """Incarnations that get no more work."""
        self.deaf_at = float("-inf")
        """When they could not have been heard, last: silence counts from there."""
        self._looked: float | None = None
        """When silent ones were looked for, last."""

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._by_name.values())

    @property
    def gathered_at(self) -> float:
        """When those that are starting together may be taken to be all there; never while there is none."""
        if not self._by_name:
            return float("inf")
        return min(self._newest + GATHER_S, self._oldest + GATHER_AT_MOST_S)

    def hello(self, message: WorkerHello, now: float) -> Worker | None:
        """Take a worker up; the earlier incarnation that it replaces, if there was one."""
        if message.incarnation in self._set_aside:
            return None
        known = self._by_name.get(message.worker)
        if known is not None and known.incarnation == message.incarnation:
            known.introduce(message)
            self.heard(message.worker, message.incarnation, now)
            return None
        if not self._by_name:
            self._oldest = now
        self.departed.pop(message.worker, None)
        self._by_name[message.worker] = Worker(message, message.incarnation, now)
        self._newest, self._sorted = now, None
        return known

    def heard(self, name: str, incarnation: str, now: float) -> Worker | None:
        """Note a sign of life; None when it comes from a worker that is not known, or no longer."""
        worker = self._by_name.get(name)
        if worker is None or worker.incarnation != incarnation:
            return None
        worker.heard = now
        return worker

    def gone(self, name: str, incarnation: str, reason: str = "") -> Worker | None:
        """Forget a worker that said it leaves."""
        worker = self._by_name.get(name)
        if worker is None or worker.incarnation != incarnation:
            return None
        if reason:
            self.departed[name] = reason
        if len(self.departed) > MOST_DEPARTED:
            del self.departed[next(iter(self.departed))]
        self._sorted = None
        return self._by_name.pop(name)

    def doubt(self, message: JobFailed, now: float) -> Worker | None:
        """Take note of a failed attempt; the worker, when it is set aside because its results are wrong. The last one stays."""
        n_wrong = self._doubts.note(message, now)
        if not n_wrong or len(self) < 2:
            return None
        why = f"set aside: {n_wrong} of its results did not pass their check; look at its memory, then restart its workerd"
        worker = self.gone(message.worker, message.incarnation, why)
        if worker is not None:
            self._set_aside.add(message.incarnation)
        return worker

    def is_set_aside(self, incarnation: str) -> bool:
        """Whether it is one that is not believed."""
        return incarnation in self._set_aside

    def lose_silent(self, now: float, silence_s: float) -> list[Worker]:
        """Forget, and return, the workers that were not heard for too long, the longest silent first.

        Asked every second. Where it was not, it was we who heard nothing: what was said meanwhile waits in the queue.
        """
        if self._looked is not None and now - self._looked > STOOD_STILL_S:
            self.deaf_at = now
        self._looked = now
        if now - self.deaf_at <= silence_s:
            return []
        lost = [worker for worker in self._by_name.values() if now - worker.heard > silence_s]
        for worker in lost:
            del self._by_name[worker.hello.worker]
            self._sorted = None
        return sorted(lost, key=lambda worker: worker.heard)

    def is_deaf(self, now: float) -> bool:
        """Whether things may have been said that were not heard yet."""
        return now - self.deaf_at <= HEARING_S

    def facts(self) -> FleetFacts:
        """What the planner may count on: the smallest memory, mean speeds."""
        if not self._by_name:
            return FleetFacts()
        hellos = [worker.hello for worker in self]
        return FleetFacts(
            n_workers=len(hellos),
            memory_bytes=min(hello.memory_bytes for hello in hellos),
            flops_per_s=max(1e6, sum(hello.flops_per_s for hello in hellos) / len(hellos)),
            bytes_per_s=max(1e5, sum(hello.bytes_per_s for hello in hellos) / len(hellos)),
        )

    def views(self, wall_offset: float) -> tuple[WorkerView, ...]:
        """For the control object; ``wall_offset`` turns the scheduler's clock into seconds since 1970."""
        if self._sorted is None:
            self._sorted = [self._by_name[name] for name in sorted(self._by_name)]
        return tuple([worker.view(wall_offset) for worker in self._sorted])
