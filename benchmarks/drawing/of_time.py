"""Time against n, log-log: a line for each peer, its spread, and the arithmetic alone."""

from __future__ import annotations

from typing import Any

from benchmarks.drawing import style
from benchmarks.findings import PEERS, Case, Document, squares, typical
from benchmarks.statistics import Spread


def draw(document: Document) -> Any:
    found = squares(document)
    if len(found) < 2:
        return None
    figure, axes = style.figure(
        "Products of float64 matrices, from Zarr to Zarr",
        f"seconds for n × n, median and spread of {document['rounds']} rounds; {document['machine']['cores']} cores",
    )
    axes.set(xscale="log", yscale="log", xlabel="n")
    ends = {}
    for peer in (*PEERS, "tilefleet"):
        if points := _points(found, peer):
            ends[peer] = _line(axes, peer, points)
    if dot := _points(found, "numpy", "compute"):
        ends["dot"] = _line(axes, "dot", dot)
    _ticks(axes, found)
    style.name_lines(axes, ends)
    return figure


def _line(axes: Any, peer: str, points: list[tuple[int, Spread]]) -> tuple[float, float]:
    """With its spread; where it ends."""
    style.line(axes, peer, [(n, took.median) for n, took in points])
    x, lows, highs = zip(*((n, took.low, took.high) for n, took in points), strict=True)
    if peer != "dot":
        axes.fill_between(x, lows, highs, color=style.colour(peer), alpha=0.12, lw=0)
    return x[-1], points[-1][1].median


def _points(found: list[Case], peer: str, part: str = "") -> list[tuple[int, Spread]]:
    return [(case["about"]["n"], took) for case in found if (took := typical(case, peer, part)) is not None]


def _ticks(axes: Any, found: list[Case]) -> None:
    sizes = [case["about"]["n"] for case in found]
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} s")
