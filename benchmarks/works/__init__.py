"""The works: what is measured, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.pool import Pool
from benchmarks.rounds import Case, Say


@dataclass(frozen=True)
class Bench:
    """How much is to be measured, and who is told."""

    rounds: int
    is_quick: bool
    say: Say
    pool: Pool
    peers: tuple[str, ...] = ()
    """Only these; empty: all that a work has."""
    sizes: tuple[int, ...] = ()
    """Instead of a work's own, for square products."""

    def chosen(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if not self.peers or name in self.peers)


@dataclass
class Outcome:
    """What a work found: cases, and facts that are no times. ``skipped``: why there is nothing."""

    cases: list[Case] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True)
class Work:
    """``about`` says in a line what is done and what it is checked with."""

    name: str
    about: str
    run: Callable[[Bench], Outcome]
