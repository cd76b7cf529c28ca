"""Speed-up against nodes, beside the ideal."""

from __future__ import annotations

from typing import Any

from benchmarks.drawing import style
from benchmarks.findings import Document, cases, seconds
from benchmarks.statistics import short, spread


def draw(document: Document) -> Any:
    by_nodes = {case["about"]["nodes"]: seconds(case, "tilefleet") for case in cases(document, "nodes")}
    counts = sorted(n for n, times in by_nodes.items() if times)
    if len(counts) < 2 or counts[0] != 1:
        return None
    cores = cases(document, "nodes")[0]["about"]["cores_each"]
    figure, axes = style.figure(
        "Speed-up against nodes", f"the same product on real nodes under systemd, {cores:g} of a core each by quota", width=6.4
    )
    ups = [spread([one / many for one, many in zip(by_nodes[1], by_nodes[n], strict=False)]) for n in counts]
    axes.plot([0, counts[-1]], [0, counts[-1]], color=style.FAINT, lw=1, ls=(0, (4, 3)))
    axes.annotate("as many times as nodes", (counts[-1] * 0.5, counts[-1] * 0.5), (-6, 6), textcoords="offset points", ha="right",
                  color=style.FAINT)  # fmt: skip
    axes.plot(counts, [up.median for up in ups], "o-", color=style.colour("tilefleet"), lw=2.6, ms=6)
    axes.vlines(counts, [up.low for up in ups], [up.high for up in ups], color=style.colour("tilefleet"), lw=1.2)
    for n, up in zip(counts, ups, strict=True):
        axes.annotate(f"{short(up.median)} ×", (n, up.median), (7, -12), textcoords="offset points", weight="bold")
    axes.set(xlabel="nodes", xlim=(0, counts[-1] + 0.6), ylim=(0, counts[-1] + 0.4))
    axes.set_xticks(counts)
    axes.set_yticks(range(counts[-1] + 1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    return figure
