"""Questions to a result document: pure. A case is a dict as ``record`` keeps it; what was not measured is None or empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.statistics import Spread, ratios, spread

PEERS = ("numpy", "dask-threads", "dask-cluster", "cubed", "ray")
OTHER_ARRAYS = ("dask-threads", "dask-cluster", "cubed")
"""Those that have arrays in chunks, as we do; what Ray computes was written for this bench."""
Case = dict[str, Any]
Document = dict[str, Any]


def cases(document: Document, work: str) -> list[Case]:
    """All cases of a work."""
    found: list[Case] = document["works"].get(work, {}).get("cases", [])
    return found


def squares(document: Document) -> list[Case]:
    """The float64 products of n × n, by size."""
    return sorted(cases(document, "product-float64"), key=lambda case: case["about"]["flops"])


def largest(document: Document, work: str) -> Case | None:
    """The case of a work with the most operations."""
    return max(cases(document, work), key=lambda case: case["about"].get("flops", 0), default=None)


def named(document: Document, work: str, name: str) -> Case | None:
    """The first case whose name contains these words."""
    return next((case for case in cases(document, work) if name in case["name"]), None)


def runs(case: Case | None, peer: str) -> list[dict[str, Any]]:
    return case["runs"].get(peer, []) if case is not None else []


def seconds(case: Case | None, peer: str, part: str = "") -> list[float]:
    """What a peer's runs took, or one part of them, in the order of rounds."""
    return [run["parts_s"][part] if part else run["s"] for run in runs(case, peer) if not part or part in run["parts_s"]]


def cpu_seconds(case: Case | None, peer: str) -> list[float]:
    return [run["cpu_s"] for run in runs(case, peer)]


def ratio(case: Case | None, theirs: str, *, ours: str = "tilefleet", part: str = "") -> Spread | None:
    """Our seconds over another's (or over a part of them), paired by rounds."""
    mine, others = seconds(case, ours), seconds(case, theirs, part)
    return ratios(mine, others) if mine and others else None


def worst_ratio(case: Case | None, peers: Sequence[str]) -> tuple[str, Spread] | None:
    """Against the quickest of these peers, by the median ratio."""
    found = [(peer, value) for peer in peers if (value := ratio(case, peer)) is not None]
    return max(found, key=lambda pair: pair[1].median, default=None)


def typical(case: Case | None, peer: str, part: str = "") -> Spread | None:
    """Median and spread of seconds."""
    values = seconds(case, peer, part)
    return spread(values) if values else None


def fact(document: Document, work: str, name: str) -> Any:
    """A fact of a work that is no time."""
    return document["works"].get(work, {}).get("facts", {}).get(name)
