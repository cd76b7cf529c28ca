"""Progress on a screen: bars on a terminal, a line per milestone on a pipe (``--progress full``), or nothing."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from coordinator.cli.options import Progress
from coordinator.cli.progress import Bar, by_stage, by_worker, milestone, overall
from coordinator.cli.render import expression
from coordinator.cli.session import is_live
from tilefleet.records import Control, OperationRecord, OperationStatus


class Display(AbstractContextManager["Display"]):
    """Shows nothing; what ``--progress none`` and a summary on a pipe come to."""

    def __init__(self, record: OperationRecord) -> None:
        self.record = record
        self.status: OperationStatus | None = None
        self.control: Control | None = None

    def __exit__(self, *exc_info: object) -> None:
        """End of the display; what it drew is gone, what it printed stays."""

    def update(self, status: OperationStatus, control: Control | None = None) -> None:
        """There is news."""
        self.status, self.control = status, control or self.control


class Lines(Display):
    """One plain line on standard error for each milestone."""

    _last = ""

    def update(self, status: OperationStatus, control: Control | None = None) -> None:
        super().update(status, control)
        line = f"{self.record.kind} {self.record.id}: {milestone(status)}"
        if line != self._last:
            self._last = line
            print(line, file=sys.stderr, flush=True)  # noqa: T201  the command's own output


class Bars(Display):
    """Bars that are redrawn ten times a second, and taken away at the end."""

    def __init__(self, record: OperationRecord, *, is_full: bool) -> None:
        super().__init__(record)
        self._is_full = is_full
        self._stack = ExitStack()

    def __enter__(self) -> Bars:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr)
        self._stack.enter_context(Live(self, console=console, refresh_per_second=10, transient=True))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        now_s = time.time()
        head = Text(f"{self.record.kind} {self.record.id}: {expression(self.record)}", "bold", no_wrap=True, overflow="ellipsis")
        bars = [overall(self.status, now_s - self.record.submitted_at)]
        if self._is_full and self.status is not None:
            bars = [*by_stage(self.status), bars[0]._replace(label="all")]
        names = self.status.workers if self.status else ()
        workers = by_worker(self.control, names, now_s) if self._is_full else []
        return Group(head, _grid(bars), *(Text(f"  {line}", "dim", no_wrap=True, overflow="ellipsis") for line in workers))


def display(record: OperationRecord, level: Progress) -> Display:
    """The display that suits the level and the stream."""
    if level is Progress.NONE:
        return Display(record)
    if is_live(sys.stderr):
        return Bars(record, is_full=level is Progress.FULL)
    return Lines(record) if level is Progress.FULL else Display(record)


def busy(text: str, level: Progress) -> AbstractContextManager[object]:
    """A turning sign and a text on a terminal, while there is no operation yet to show; elsewhere nothing."""
    if level is Progress.NONE or not is_live(sys.stderr):
        return nullcontext()
    from rich.console import Console

    return Console(file=sys.stderr).status(text)


def _grid(bars: list[Bar]) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    for bar in bars:
        drawn = ProgressBar(total=bar.total or None, completed=bar.done, width=30, pulse=not bar.total)
        grid.add_row(Text("  " + bar.label, "cyan"), drawn, Text(bar.text, no_wrap=True, overflow="ellipsis"))
    return grid
