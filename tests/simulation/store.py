"""The simulated object store: objects by URL, create-if-absent, and calls that fail before or after their effect.

What lies in it is kept as it was given, not as bytes. Tiles are ``Tile``s, which know who wrote them and whether they are
right; the workers do not look.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, TypeVar

from tests.simulation.faults import Habits
from tests.simulation.processes import Agenda, Steps
from tilefleet.errors import Unreachable

T = TypeVar("T")
ROOT = "file:///store"


class Tile(NamedTuple):
    """One output object of a job."""

    writer: str
    attempt: int
    is_right: bool = True


def url_of(key: str) -> str:
    """Of a key in the deployment's store."""
    return f"{ROOT}/{key}"


class SimStore:
    """S3, or a directory. ``objects`` is the truth; ``call`` is how processes see it."""

    def __init__(self, agenda: Agenda, random: Random, habits: Habits) -> None:
        self.objects: dict[str, Any] = {}
        self.written_at: dict[str, float] = {}
        """When an object was written last, also of those that are gone."""
        self.habits = habits
        self.away_until = 0.0
        self._agenda = agenda
        self._random = random

    def call(self, effect: Callable[[], T]) -> Steps[T]:
        """One request, its effect and its answer. Raises Unreachable when either gets lost."""
        habits, draw = self.habits, self._random.random
        yield habits.latency_s * draw()
        if self._agenda.now < self.away_until or draw() < habits.store_error:
            yield habits.latency_s
            raise Unreachable("the store: 503 Slow Down")
        answer = effect()
        yield habits.slow_answer_s * draw() if draw() < habits.slow_answer else habits.latency_s * draw()
        if draw() < habits.answer_lost:
            raise Unreachable("the store: no answer in time")
        return answer

    def put_new(self, url: str, value: Any) -> bool:
        """Create; False (412) when it is there."""
        if url in self.objects:
            return False
        self.put(url, value)
        return True

    def put(self, url: str, value: Any) -> None:
        before = self.objects.get(url)
        assert not isinstance(before, Tile), f"{url}, committed by {before}, is replaced by {value}"
        self.objects[url] = value
        self.written_at[url] = self._agenda.now

    def get(self, url: str) -> Any:
        """None for what is not there."""
        return self.objects.get(url)

    def below(self, prefix: str) -> list[str]:
        """URLs below a prefix."""
        start = f"{prefix}/"
        return [url for url in self.objects if url.startswith(start)]

    def delete_prefix(self, prefix: str) -> None:
        for url in self.below(prefix):
            del self.objects[url]

    def rename(self, prefix: str, to: str) -> None:
        """What a directory can and S3 cannot."""
        for url in self.below(prefix):
            self.put(to + url[len(prefix) :], self.objects.pop(url))
