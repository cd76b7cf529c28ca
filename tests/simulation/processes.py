"""Virtual time, and processes that live in it: generators that are resumed when their wait is over.

The rules: whatever a process does, it does in steps, and between any two it may die or freeze; what it asked of a service
is then under way all the same. Nothing here reads a clock or draws a random number that is not the world's own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from functools import partial
from itertools import count
from random import Random
from typing import Any, TypeVar

from tilefleet.errors import TilefleetError

T = TypeVar("T")
INFINITE = float("inf")


class Signal:
    """Something to wait for: ``yield (signal, timeout_s)``."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for wake in waiting:
            wake()


Wait = float | tuple[Signal, float]
Steps = Generator[Wait, None, T]


class Agenda:
    """What happens when."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.n_steps = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = count()

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay_s, next(self._ticket), action))

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until a condition holds; False when it does not within ``limit_s``."""
        end, heap = self.now + limit_s, self._heap
        while not until():
            if not heap or heap[0][0] > end:
                self.now = end
                return False
            self.now, _, action = heapq.heappop(heap)
            self.n_steps += 1
            action()
        return True


class Process:
    """One operating-system process, which lives for so many steps."""

    def __init__(self, agenda: Agenda, life: float = INFINITE) -> None:
        self.agenda = agenda
        self.is_alive = True
        self.frozen_until = 0.0
        self.lag_s = 0.0
        """By how much its clock is behind: a machine that is suspended does not count the time."""
        self.steps_left = life

    def clock(self) -> float:
        """CLOCK_MONOTONIC of its machine."""
        return self.agenda.now - self.lag_s

    def freeze(self, seconds: float, *, stops_clock: bool) -> None:
        """SIGSTOP, or the machine is suspended."""
        self.frozen_until = max(self.frozen_until, self.agenda.now + seconds)
        self.lag_s += seconds if stops_clock else 0.0

    def die(self) -> None:
        """Nothing of it runs any more."""
        self.is_alive = False

    def spawn(self, steps: Steps[Any]) -> None:
        """Begin something, soon."""
        self.agenda.at(0.0, partial(self._step, steps))

    def _step(self, steps: Steps[Any]) -> None:
        if not self.is_alive:
            return
        if self.agenda.now < self.frozen_until:
            self.agenda.at(self.frozen_until - self.agenda.now, partial(self._step, steps))
            return
        self.steps_left -= 1
        if self.steps_left < 0:
            self.die()
            return
        try:
            wait = next(steps)
        except StopIteration:
            return
        if isinstance(wait, tuple):
            self._await(steps, *wait)
        else:
            self.agenda.at(wait, partial(self._step, steps))

    def _await(self, steps: Steps[Any], signal: Signal, timeout_s: float) -> None:
        is_woken = False

        def wake() -> None:
            nonlocal is_woken
            if not is_woken:
                is_woken = True
                self._step(steps)

        signal.waiting.append(partial(self.agenda.at, 0.0, wake))
        self.agenda.at(timeout_s, wake)


def persist(call: Callable[[], Steps[T]], agenda: Agenda, random: Random, for_s: float) -> Steps[T]:
    """``tilefleet.backoff.persist`` in virtual time."""
    deadline, delay_s = agenda.now + for_s, 0.1
    while True:
        try:
            return (yield from call())
        except TilefleetError as error:
            if not error.is_retryable or agenda.now >= deadline:
                raise
        yield delay_s * random.uniform(0.5, 1.0)
        delay_s = min(5.0, 2 * delay_s)
