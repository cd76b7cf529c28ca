"""What a petaflop costs against the size of the work: flat is perfect, what rises to the left is overhead.

The price is that of the machine's cores on demand, for as long as an operation took; storage and messages come on top.
"""

from __future__ import annotations

from typing import Any

from benchmarks.drawing import style
from benchmarks.findings import PEERS, Document, seconds, squares, typical

USD_PER_CORE_HOUR = 0.1785 / 4  # a c7i.xlarge in us-east-1, on demand


def draw(document: Document) -> Any:
    found = squares(document)
    if len(found) < 2:
        return None
    cores = document["machine"]["cores"]
    figure, axes = style.figure(
        "What 10¹⁵ operations cost, by the size of the product",
        f"float64, Zarr to Zarr; {cores} cores at {USD_PER_CORE_HOUR:.4f} $ an hour each, median times",
    )
    axes.set(xscale="log", yscale="log", xlabel="operations in one product")
    ends = {}
    for peer in (*PEERS, "tilefleet"):
        points = [(case["about"]["flops"], usd(case, peer, cores)) for case in found if seconds(case, peer)]
        if points:
            style.line(axes, peer, points)
            ends[peer] = points[-1]
    flops = [case["about"]["flops"] for case in found]
    axes.set_xticks(flops, [f"{powers(n)}\n{case['name'].split()[-1]}" for n, case in zip(flops, found, strict=True)])
    axes.set_yticks(
        [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    )
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} $")
    style.name_lines(axes, ends)
    return figure


def powers(n: float) -> str:
    """Of ten: 1.1·10¹²."""
    digits, _, exponent = f"{n:.1e}".partition("e+")
    return f"{digits}·10{exponent.lstrip('0').translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def usd(case: Any, peer: str, cores: int) -> float:
    """For 10¹⁵ operations at the speed of one case."""
    took = typical(case, peer)
    assert took is not None
    return took.median * cores * USD_PER_CORE_HOUR / 3600 * 1e15 / float(case["about"]["flops"])
