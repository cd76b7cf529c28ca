"""A fleet's picture as text for people and as a document for programs: pure, with the width to lay it out for as an argument."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import msgspec

from coordinator.cli.render import age_text, count_text, table, when_text
from coordinator.fleet.look import QueueCounts, Report, StoreSize
from coordinator.fleet.money.spending import usd_text
from coordinator.fleet.status import CoordinatorView, FleetPicture, NodeView
from tilefleet.config import Config
from tilefleet.quantities import format_bytes, format_seconds

NOTHING_YET = "not made yet, or taken down; 'tilefleet fleet up' makes it"


def text(report: Report, config: Config, now_s: float, columns: int | None) -> str:
    """The whole status. ``columns``: width of the terminal; None: as wide as it gets."""
    picture = report.picture
    if not report.is_made:
        return "\n".join([f"fleet {config.fleet.name}: {NOTHING_YET}", *report.troubles])
    workers = [node for node in picture.nodes if node.role == "worker"]
    head = f"fleet {config.fleet.name}: " + (
        f"{picture.n_up} of {count_text(len(workers), 'node')} up" if workers else "no nodes; 'tilefleet fleet up' makes them"
    )
    rows = [("coordinator", _coordinator(picture.coordinator, report, config, now_s)), ("cost", _cost(report, config))]
    rows += [(f"queue {name}", _counts(counts)) for name, counts in (report.queues or {}).items()]
    rows.append(("store", _store(report.store, config)))
    rows += [(name, said) for name, said in _limits(config)]
    rows += [("trouble", said) for said in report.troubles]
    parts = [head, _wrapped(rows, columns)]
    if picture.nodes:
        parts.append(nodes_text(picture, columns))
    return "\n\n".join(parts)


def nodes_text(picture: FleetPicture, columns: int | None) -> str:
    """The table of nodes; what is wrong with one stands below it. Columns that say nothing, or do not fit, are left out."""
    nodes = picture.nodes
    cells = {
        "NODE": [node.name for node in nodes],
        "STATE": [node.state if node.role == "worker" else f"{node.state} (coordinator)" for node in nodes],
        "COMPUTING": [_doing(node) for node in nodes],
        "HEARD": [f"{node.heard_ago_s:.0f} s ago" if node.heard_ago_s is not None else "" for node in nodes],
        "ADDRESS": [node.address for node in nodes],
        "MACHINE": [node.machine if not (node.address and node.address in node.machine) else "" for node in nodes],
        "AGE": [_age(node.age_s) for node in nodes],
        "$/H": [usd_text(node.usd_per_hour)[1:] if node.usd_per_hour else "" for node in nodes],
        "VERSION": [node.version for node in nodes],
        "TYPE": [" ".join(word for word in (node.kind, node.market) if word) for node in nodes],
        "ZONE": [node.zone for node in nodes],
    }
    cells = {title: column for title, column in cells.items() if any(column)}
    for title in ("ZONE", "TYPE", "VERSION", "MACHINE", "$/H"):
        if columns is not None and _width(cells) > columns:
            cells.pop(title, None)
    rows = [tuple(cells), *zip(*cells.values(), strict=True)]
    lines = table(rows, right=[index for index, title in enumerate(cells) if title in {"AGE", "$/H", "HEARD"}]).splitlines()
    shown = lines[:1]
    for line, node in zip(lines[1:], nodes, strict=True):
        shown += [line, *_sentence(node, columns)]
    return "\n".join(shown)


def document(report: Report, config: Config, now_s: float) -> dict[str, Any]:
    """The same for programs; docs/reference/cli.md describes it. Keys are only ever added."""
    picture = report.picture
    return {
        "fleet": config.fleet.name,
        "is_made": report.is_made,
        "at": now_s,
        "nodes_up": picture.n_up,
        "nodes": [msgspec.to_builtins(node) for node in picture.nodes],
        "coordinator": {**msgspec.to_builtins(picture.coordinator), "here_pid": report.here_pid},
        "queues": msgspec.to_builtins(dict(report.queues)) if report.queues is not None else None,
        "store": {"url": config.store.url, **msgspec.to_builtins(report.store)} if report.store else {"url": config.store.url},
        "spent_usd": round(picture.spent_usd, 4),
        "usd_per_hour": round(picture.usd_per_hour, 4),
        "troubles": list(report.troubles),
    }


def _coordinator(view: CoordinatorView, report: Report, config: Config, now_s: float) -> str:
    if view.state == "leads":
        since = f" for {age_text(view.since, now_s)}" if view.since else ""
        place = " (this machine)" if report.here_pid and view.leader.endswith(f":{report.here_pid}") else ""
        open_text = f", {count_text(view.n_open, 'operation')} not ended" if view.n_open is not None else ""
        return f"{view.leader}{place} leads{since}, version {view.version}{open_text}"
    if report.here_pid:
        return f"that of this machine (process {report.here_pid}) runs and does not lead; see {report.here_log}"
    mend = "'tilefleet fleet up' starts one"
    if view.state == "none":
        return f"none; {mend}"
    if view.state == "resigned":
        return f"none: the last one was stopped, and nodes wait for the next; {mend}"
    where = f", or look at {report.here_log}" if config.nodes.coordinator == "here" else ", or look at its machine"
    return f"none: {view.leader} is not heard any more; {mend}{where}"


def _cost(report: Report, config: Config) -> str:
    picture = report.picture
    if config.nodes.provider == "hosts":
        return "the machines are yours"
    unknown = "; the price of some is not known" if picture.has_unpriced else ""
    return (
        f"{usd_text(picture.usd_per_hour)} an hour now, {usd_text(picture.spent_usd)} so far "
        f"(machines only, without S3 and SQS requests{unknown})"
    )


def _counts(counts: QueueCounts) -> str:
    dead = f", {counts.dead} dead" if counts.dead else ""
    return f"{counts.waiting} waiting, {counts.in_flight} in flight{dead}"


def _store(size: StoreSize | None, config: Config) -> str:
    if size is None:
        return config.store.url
    at_least = "" if size.is_all else "at least "
    return f"{config.store.url}: {at_least}{count_text(size.objects, 'object')}, {at_least}{format_bytes(size.size_bytes)}"


def _limits(config: Config) -> list[tuple[str, str]]:
    nodes = config.nodes
    found = []
    if nodes.max_nodes:
        found.append(("autoscaling", f"{nodes.min_nodes} to {count_text(nodes.max_nodes, 'node')}"))
    budget = [
        f"{usd_text(nodes.max_cost_usd)}" if nodes.max_cost_usd else "",
        f"{nodes.max_hours:g} h" if nodes.max_hours else "",
    ]
    if any(budget):
        found.append(("budget", " or ".join(one for one in budget if one) + ", then the nodes are drained and terminated"))
    return found


def _doing(node: NodeView) -> str:
    if node.held is None:
        return ""
    if not node.held:
        return "nothing"
    whose = f" of {', '.join(node.operations)}" if node.operations else ""
    return f"{count_text(node.held, 'job')}{whose}"


def _age(age_s: float | None) -> str:
    if age_s is None:
        return ""
    return f"{age_s:.0f} s" if age_s < 60 else " ".join(format_seconds(age_s).split()[:2])


def _sentence(node: NodeView, columns: int | None) -> list[str]:
    if not node.sentence or node.state == "unknown":  # whose sentence is that of the coordinator's line
        return []
    first, *rest = node.sentence.splitlines()
    indent = "    "
    lines = textwrap.wrap(first, (columns or 120) - len(indent)) or [""]
    return [indent + line for line in lines] + [f"{indent}  {line}" for line in rest]


def _wrapped(rows: list[tuple[str, str]], columns: int | None) -> str:
    """Names and what is said of them; continued below where the terminal ends."""
    column = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, said in rows:
        first, *rest = textwrap.wrap(said, max(20, (columns or 10_000) - column), break_on_hyphens=False) or [""]
        lines += [f"{name:<{column}}{first}".rstrip(), *(" " * column + line for line in rest)]
    return "\n".join(lines)


def _width(cells: Mapping[str, list[str]]) -> int:
    return sum(max(len(title), *(len(cell) for cell in column)) for title, column in cells.items()) + 2 * (len(cells) - 1)


def stamp(now_s: float) -> str:
    """The line above each picture of ``--watch``."""
    return when_text(now_s)
