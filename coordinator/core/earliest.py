"""Operations in the order of a number, each once: a heap in which outdated entries stay until they come up."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from coordinator.core.operation_run import NEVER, OperationRun


class Earliest:
    """Operations by a number each, the least first; among equals, the one that was put first."""

    def __init__(self) -> None:
        self._numbers: dict[OperationRun, float] = {}
        self._heap: list[tuple[float, int, OperationRun]] = []
        self._order = itertools.count()

    def __contains__(self, run: OperationRun) -> bool:
        return run in self._numbers

    def put(self, run: OperationRun, number: float) -> None:
        """Have it come up at that number, if it does not come up before."""
        if number < self._numbers.get(run, NEVER):
            self._numbers[run] = number
            heapq.heappush(self._heap, (number, next(self._order), run))

    def remove(self, run: OperationRun) -> None:
        """Forget one that is there."""
        del self._numbers[run]

    def number(self) -> float:
        """The least; infinite when there is none."""
        run = self.first()
        return NEVER if run is None else self._numbers[run]

    def first(self) -> OperationRun | None:
        """That of the least number; None when there is none."""
        heap, numbers = self._heap, self._numbers
        while heap:
            number, _, run = heap[0]
            if numbers.get(run) == number:
                return run
            heapq.heappop(heap)
        return None

    def pop_until(self, bound: float) -> Iterator[OperationRun]:
        """Take out all whose number is at most ``bound``."""
        while (run := self.first()) is not None and self._numbers[run] <= bound:
            self.remove(run)
            yield run
