"""How far each node of a fleet is, as a table in memory: phase events in, lines and rows out. ``fleet_live`` draws them.

The rule: a phase of a node is timed by what its event says; what is drawn in between is counted by our own clock, which is an
argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from coordinator.cli.render import table
from coordinator.fleet.deciding.picture import number_of
from coordinator.fleet.ports import PhaseEvent
from tilefleet.quantities import format_seconds

TOO_SHORT_S = 0.005  # a phase that only saw that there is nothing to do is no news


class NodeRow(NamedTuple):
    """A node at work."""

    node: str
    phase: str
    state: str
    phase_s: float
    """In this phase, or how long it took when it is over."""
    total_s: float
    sentence: str = ""


class Steps:
    """What every node is at, and how long each of its phases took."""

    def __init__(self) -> None:
        self.phases_s: dict[str, dict[str, float]] = {}
        self._last: dict[str, tuple[PhaseEvent, float]] = {}
        self._first_at: dict[str, float] = {}

    def take(self, event: PhaseEvent, at_s: float) -> None:
        """An event that came at ``at_s`` (seconds since the command began)."""
        self._first_at.setdefault(event.node, at_s - (event.elapsed_s if event.state != "begun" else 0.0))
        self._last[event.node] = (event, at_s)
        if event.state != "begun":
            phases = self.phases_s.setdefault(event.node, {})
            phases[event.phase] = phases.get(event.phase, 0.0) + event.elapsed_s

    def rows(self, now_s: float) -> list[NodeRow]:
        """Every node that something was heard of; in the order of their numbers."""
        rows = []
        for node, (event, at_s) in sorted(self._last.items(), key=lambda item: number_of(item[0])):
            in_phase_s = now_s - at_s if event.state == "begun" else event.elapsed_s
            until_s = now_s if event.state == "begun" else at_s
            total_s = until_s - self._first_at[node]
            rows.append(NodeRow(node, event.phase, event.state, in_phase_s, total_s, event.sentence))
        return rows


def line(event: PhaseEvent, at_s: float) -> str:
    """``12.3 s  n3  packages done in 8.1 s``; empty for a phase that only begins or took no time: no news on a pipe."""
    if event.state == "begun" or (event.state == "done" and event.elapsed_s < TOO_SHORT_S):
        return ""
    stamp = f"{at_s:6.1f} s  {event.node}"
    if event.state == "done":
        return f"{stamp}  {event.phase} done in {format_seconds(event.elapsed_s)}"
    first, *rest = event.sentence.splitlines() or [""]
    said = f": {first}" if first else ""
    return "\n".join(
        [f"{stamp}  {event.phase} FAILED after {format_seconds(event.elapsed_s)}{said}", *(f"            {one}" for one in rest)]
    )


def timings(phases_s: Mapping[str, Mapping[str, float]]) -> str:
    """The table at the end: for each phase how many nodes went through it, and their shortest, median and longest time. Phases
    stand in the order in which the nodes came to them."""
    rows: list[tuple[str, ...]] = [("phase", "nodes", "shortest", "median", "longest", "longest at")]
    for phase in dict.fromkeys(phase for phases in phases_s.values() for phase in phases):
        took = {node: phases[phase] for node, phases in phases_s.items() if phase in phases}
        slowest = max(took, key=lambda node: took[node])
        if took[slowest] >= TOO_SHORT_S:
            figures = (min(took.values()), median(took.values()), took[slowest])
            rows.append((phase, str(len(took)), *(format_seconds(figure) for figure in figures), slowest))
    return table(rows, right=(1, 2, 3, 4), indent="  ") if len(rows) > 1 else ""
