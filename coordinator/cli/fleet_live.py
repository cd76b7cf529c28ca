"""What nodes are at, on a screen: a table that is redrawn on a terminal, a plain line per finished phase on a pipe.

The rule: everything goes to standard error; what is over (a failure, something made) stays, the table is taken away at the end.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from coordinator.cli.fleet_progress import NodeRow, Steps, line
from coordinator.cli.session import is_live
from coordinator.fleet.ports import PhaseEvent
from tilefleet.quantities import format_seconds

ROOM_ROWS = 6  # of the terminal that the table leaves free


class Display(AbstractContextManager["Display"]):
    """Keeps count and shows nothing: ``--json``."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.steps = Steps()
        self._began = time.monotonic()
        self._failures: set[str] = set()

    def __exit__(self, *exc_info: object) -> None:
        """End of the display."""

    @property
    def elapsed_s(self) -> float:
        """Since the command began."""
        return time.monotonic() - self._began

    def watch(self, event: PhaseEvent) -> None:
        """A phase of a node began or ended."""
        self.steps.take(event, self.elapsed_s)
        if event.state == "failed":
            self._failures.add(f"{event.node}: {event.phase}: {event.sentence}")

    def tell(self, text: str) -> None:
        """Something was made, found or removed."""

    def is_told(self, text: str) -> bool:
        """Whether it was seen already as the failure of a phase."""
        return text in self._failures


class Lines(Display):
    """Plain lines."""

    def watch(self, event: PhaseEvent) -> None:
        super().watch(event)
        self._print(line(event, self.elapsed_s))

    def tell(self, text: str) -> None:
        self._print("" if self.is_told(text) else f"{self.elapsed_s:6.1f} s  {text}")

    def _print(self, text: str) -> None:
        if text:
            print(text, file=sys.stderr, flush=True)  # noqa: T201  the command's own output


class Table(Display):
    """A table of the nodes that are at work, redrawn four times a second; above it what is over."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self._stack = ExitStack()
        self._console: Any = None

    def __enter__(self) -> Table:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=sys.stderr, highlight=False)
        self._stack.enter_context(Live(self, console=self._console, refresh_per_second=4, transient=True))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def watch(self, event: PhaseEvent) -> None:
        super().watch(event)
        if event.state == "failed":
            self._console.print(line(event, self.elapsed_s), style="red", markup=False, emoji=False)

    def tell(self, text: str) -> None:
        if not self.is_told(text):
            self._console.print(f"{self.elapsed_s:6.1f} s  {text}", markup=False, emoji=False)

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        rows = self.steps.rows(self.elapsed_s)
        busy = [row for row in rows if row.state == "begun"]
        rest = [row for row in rows if row.state != "begun"]
        room = max(3, self._console.height - ROOM_ROWS)
        shown = (busy + rest)[:room] if len(rows) > room else rows
        head = Text(
            f"{self.what}, {seconds_text(self.elapsed_s)}: {_count_text(busy, rest)}", "bold", no_wrap=True, overflow="ellipsis"
        )
        hidden = len(rows) - len(shown)
        parts: list[Any] = [head, _grid(shown)]
        if hidden:
            parts.append(Text(f"  … and {hidden} more, {max(0, len(busy) - room)} of them at work", "dim"))
        return Group(*parts)


def display(what: str, *, is_json: bool) -> Display:
    """The display that suits the stream."""
    if is_json:
        return Display(what)
    return Table(what) if is_live(sys.stderr) else Lines(what)


def seconds_text(seconds: float) -> str:
    """Whole seconds: ``7 s``, ``1 m 12 s``."""
    return f"{seconds:.0f} s" if round(seconds) < 60 else format_seconds(round(seconds))


def _count_text(busy: list[NodeRow], rest: list[NodeRow]) -> str:
    failed = sum(row.state == "failed" for row in rest)
    counts = [(len(busy), "at work"), (len(rest) - failed, "done"), (failed, "failed")]
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "looking"


_STYLES = {"begun": "cyan", "done": "green", "failed": "red"}


def _grid(rows: list[NodeRow]) -> Any:
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid(padding=(0, 2))
    for row in rows:
        said = {"begun": "", "done": "done", "failed": "failed"}[row.state]
        grid.add_row(
            Text(f"  {row.node}", no_wrap=True),
            Text(row.phase, _STYLES[row.state], no_wrap=True),
            Text(seconds_text(row.phase_s) if row.state == "begun" else said, no_wrap=True),
            Text(f"in all {seconds_text(row.total_s)}", "dim", no_wrap=True),
        )
    return grid
