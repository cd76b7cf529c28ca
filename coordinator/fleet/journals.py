"""The journals of many nodes as one: parsed, put in the order of time, and written for people. Pure.

The rule of the order: a line goes out when no node can still say something earlier, or when it has waited ``WINDOW_S``, so
that a node that is silent or away holds nobody up for long.
"""

from __future__ import annotations

import heapq
import json
import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

WINDOW_S = 1.0  # lines of one moment come within some milliseconds; a busy node's within a second
OPENING_S = 3.0  # the same while nodes are still being connected to
LEVELS = ("debug", "info", "warning", "error")
UNITS = ("workerd", "coordinator")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_SHOWN = {"event", "level", "time", "worker", "daemon", "fleet"}  # the other columns say them
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa1-\U0010ffff]")


class Line(NamedTuple):
    """One line of a node's journal. Compares in the order of time."""

    at_us: int
    node: str
    number: int
    """Counts a node's lines, so that those of one microsecond keep their order."""
    unit: str
    level: str
    event: str
    """Empty for what is not JSON of ours: ``text`` has it."""
    fields: dict[str, Any]
    text: str = ""
    cursor: str = ""
    """Where the journal goes on after this line."""

    @property
    def time(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.at_us)


class Wanted(NamedTuple):
    """Which lines are shown."""

    operation: str = ""
    """Its id, or the beginning of it. Empty: all, also those that are about none."""
    level: str = "debug"

    def admits(self, line: Line) -> bool:
        if LEVELS.index(line.level) < LEVELS.index(self.level):
            return False
        return not self.operation or str(line.fields.get("operation", "")).startswith(self.operation)


def command(wanted: Wanted, *, since_s: float | None, count: int | None, follow: bool, cursor: str = "") -> str:
    """The script that prints a node's journal: from ``cursor`` on, or of the last seconds, or its last lines."""
    words = [
        "journalctl",
        "--output=json",
        "--all",
        "--no-pager",
        "--quiet",
        "--output-fields=MESSAGE,PRIORITY,_SYSTEMD_UNIT,UNIT",
    ]
    words += [f"--unit={unit}" for unit in UNITS]
    if cursor:
        words += [shlex.quote(f"--after-cursor={cursor}")]
    elif since_s is not None:
        words += [f"--since=-{since_s:.0f}s"]
    is_tail = not cursor and since_s is None and count is not None and not wanted.operation
    words += [f"--lines={count}"] if is_tail else ["--no-tail"] if follow else []
    words += ["--follow"] if follow else []
    line = " ".join(words)
    # What is about other operations need not travel.
    return (
        f"{line} | {{ grep --line-buffered -F -e {shlex.quote(wanted.operation)} || true; }}"
        if wanted.operation
        else f"exec {line}"
    )


def parse(node: str, text: str, number: int = 0) -> Line | None:
    """A line of ``journalctl --output=json``; None for what is none."""
    try:
        entry = json.loads(text)
        at_us = int(entry["__REALTIME_TIMESTAMP"])
        priority = int(entry.get("PRIORITY", 6))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or "").removesuffix(".service")
    message = _message(entry.get("MESSAGE"))
    ours = _ours(message)
    level = str(ours.get("level", "")) if ours else _level(priority)
    return Line(
        at_us,
        node,
        number,
        unit,
        level if level in LEVELS else "error" if level in ("critical", "exception", "fatal") else "info",
        str(ours["event"]) if ours else "",
        ours or {},
        "" if ours else message,
        str(entry.get("__CURSOR", "")),
    )


class Merger:
    """Lines of several nodes, each in its own order, into one order. Time is an argument; ``follow``: ends are not awaited."""

    def __init__(self, nodes: Iterable[str], *, follow: bool, window_s: float = WINDOW_S) -> None:
        self._reached_us: dict[str, int] = dict.fromkeys(nodes, -1)
        """Of nodes that may still say something: the time of the last line."""
        self._opening = set(self._reached_us)
        self._follow = follow
        self._window_s = window_s
        self._waiting: list[tuple[Line, float]] = []
        self._number = 0

    def push(self, line: Line, now_s: float) -> None:
        """A node's next line."""
        self._number += 1
        heapq.heappush(self._waiting, (line._replace(number=self._number), now_s))
        self._opening.discard(line.node)
        if line.node in self._reached_us:
            self._reached_us[line.node] = max(line.at_us, self._reached_us[line.node])

    def opened(self, node: str) -> None:
        """A node was reached, or will not be soon: it need not be waited for longer than others."""
        self._opening.discard(node)

    def ended(self, node: str) -> None:
        """A node has said all."""
        self._opening.discard(node)
        self._reached_us.pop(node, None)

    def take(self, now_s: float) -> list[Line]:
        """The lines whose turn it is."""
        complete_us = min(self._reached_us.values(), default=None)
        window_s = max(OPENING_S, self._window_s) if self._opening else self._window_s
        taken = []
        while self._waiting:
            line, arrived_s = self._waiting[0]
            is_due = self._follow and now_s - arrived_s >= window_s
            if not (is_due or complete_us is None or line.at_us <= complete_us):
                break
            taken.append(heapq.heappop(self._waiting)[0])
        return taken


def as_text(line: Line, zone: tzinfo | None = None, node_width: int = 0) -> str:
    """A line for people. Nothing in it moves a cursor or changes a colour."""
    at = line.time.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    level = "" if line.level == "info" else line.level
    if not line.event:
        return f"{at}  {line.node:<{node_width}}  {level:<7}  {line.unit}: {_printable(line.text)}".rstrip()
    fields = " ".join(f"{_printable(name)}={_value(value)}" for name, value in line.fields.items() if name not in _NOT_SHOWN)
    return f"{at}  {line.node:<{node_width}}  {level:<7}  {_printable(line.event):<18}  {fields}".rstrip()


def as_document(line: Line) -> dict[str, Any]:
    """The same for programs: what the daemon wrote, and where."""
    at = line.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
    said = line.fields if line.event else {"text": line.text}
    return {**said, "time": at, "node": line.node, "unit": line.unit, "level": line.level}


def _ours(message: str) -> dict[str, Any] | None:
    if not message.startswith("{"):
        return None
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) and found["event"] else None


def _message(found: Any) -> str:
    """The journal has text as a string, what is not UTF-8 as a list of numbers, and several of one name as a list of those."""
    if isinstance(found, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in found):
        return bytes(found).decode(errors="replace")
    if isinstance(found, list):
        return " ".join(_message(one) for one in found)
    return found if isinstance(found, str) else ""


def _level(priority: int) -> str:
    """Of a syslog priority, 0 to 7."""
    return "error" if priority <= 3 else "warning" if priority == 4 else "info" if priority <= 6 else "debug"


def _value(value: Any) -> str:
    if isinstance(value, str):
        is_plain = value and not re.search(r"[\s\"=]", value) and not _UNPRINTABLE.search(value)
        return value if is_plain else json.dumps(value, ensure_ascii=bool(_UNPRINTABLE.search(value)))
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(lambda found: " " if found[0] == "\t" else f"\\x{ord(found[0]):02x}", text)
