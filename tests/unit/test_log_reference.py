"""docs/reference/log-events.md names every event that a daemon emits, at its level, with its fields; and no other event."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/log-events.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


class Event(NamedTuple):
    """One call of a logger."""

    where: str
    daemon: str
    level: str
    name: str
    fields: frozenset[str]


def daemon_of(path: Path) -> str:
    if path.name == "standin.py":
        return "stand-in"
    if path.name in {"supervisor.py", "children.py"}:
        return "supervisor"
    return path.relative_to(ROOT).parts[0]


def is_logger(node: ast.expr) -> bool:
    name = ast.unparse(node)
    return name in {"log", "_log"} or name.startswith("structlog.get_logger")


def emitted() -> Iterator[Event]:
    for package in ("tilefleet", "coordinator", "workerd"):
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if "structlog.get_logger" in source:
                yield from events_in(ast.parse(source), path)


def events_in(tree: ast.AST, path: Path) -> Iterator[Event]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in LEVELS and is_logger(node.func.value):
            first = node.args[0] if node.args else None
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            assert isinstance(first, ast.Constant) and isinstance(first.value, str), f"{where}: an event's name must be a literal"
            fields = frozenset(word.arg for word in node.keywords if word.arg and word.arg != "exc_info")
            yield Event(where, daemon_of(path), node.func.attr, first.value, fields)


def documented() -> dict[tuple[str, str], tuple[str, frozenset[str]]]:
    """(daemon, event) → (level, fields)."""
    found: dict[tuple[str, str], tuple[str, frozenset[str]]] = {}
    daemon = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            daemon = line.removeprefix("## ")
        elif row := re.match(r"\| `(\w+)` \| (\w+) \| ([^|]*)\| \S", line):
            found[daemon, row[1]] = (row[2], frozenset(re.findall(r"`(\w+)`", row[3])))
    return found


def problems(events: list[Event], page: dict[tuple[str, str], tuple[str, frozenset[str]]]) -> list[str]:
    found = []
    for event in events:
        level, fields = page.get((event.daemon, event.name), ("", frozenset()))
        if not level:
            found.append(f"{event.where}: {event.name} is not in the section {event.daemon} of {PAGE.name}")
        elif level != event.level:
            found.append(f"{event.where}: {event.name} is {event.level}, and {PAGE.name} says {level}")
        elif event.fields - fields:
            found.append(f"{event.where}: {PAGE.name} does not say that {event.name} has {sorted(event.fields - fields)}")
    names = {(event.daemon, event.name) for event in events}
    return found + [f"nobody emits {name} of {daemon}" for daemon, name in page if (daemon, name) not in names]


def test_every_event_is_documented_and_no_other() -> None:
    events = list(emitted())
    assert len(events) > 40
    assert problems(events, documented()) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('log.info("never_heard_of")', "is not in the section"),
        ('log.debug("worker_ready")', "and log-events.md says info"),
        ('log.info("worker_ready", moon="full")', "does not say that worker_ready has ['moon']"),
    ],
)
def test_a_difference_is_found(line: str, said: str) -> None:
    known = list(emitted())
    wrong = [*known, *events_in(ast.parse(line), ROOT / "workerd/example.py")]
    [problem] = set(problems(wrong, documented())) - set(problems(known, documented()))
    assert said in problem
