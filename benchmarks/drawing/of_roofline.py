"""What share of the peak each peer reaches from store to store; the peak is NumPy's dot of the same matrices in memory."""

from __future__ import annotations

from typing import Any

from benchmarks.drawing import style
from benchmarks.findings import PEERS, Case, Document, largest, ratio, typical
from benchmarks.statistics import Spread

WORKS = ("product-float64", "product-float32", "product-complex128", "product-wide", "product-deep")
SHOWN = ("tilefleet", *PEERS)


def draw(document: Document) -> Any:
    found = [case for work in WORKS if (case := largest(document, work)) is not None and typical(case, "numpy", "compute")]
    if not found:
        return None
    figure, axes = style.figure(
        "Share of the peak: GFLOP/s from store to store, over those of NumPy's dot",
        "medians of ratios paired by rounds; the dot's own GFLOP/s at the right",
        height=1.6 + 0.6 * len(found),
    )
    for place, case in enumerate(found):
        _row(axes, place, case)
    axes.set_yticks(range(len(found)), [case["name"] for case in found], color=style.INK)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.08), ylim=(len(found) - 0.4, -0.6))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.axvline(1, color=style.FAINT, lw=1, ls=(0, (4, 3)))
    _legend(axes, [peer for peer in SHOWN if any(share(case, peer) for case in found)])
    return figure


def share(case: Case, peer: str) -> Spread | None:
    """Of the dot's speed, by one peer."""
    times = ratio(case, "numpy", ours=peer, part="compute")
    return Spread(1 / times.median, 1 / times.high, 1 / times.low, times.n) if times else None


def _row(axes: Any, place: int, case: Case) -> None:
    shares = {peer: value for peer in SHOWN if (value := share(case, peer)) is not None}
    axes.plot(
        [min(one.median for one in shares.values()), 1], [place, place], color=style.GRID, lw=6, solid_capstyle="round", zorder=1
    )
    for order, (peer, value) in enumerate(reversed(shares.items())):
        is_ours = peer == "tilefleet"
        axes.plot([value.low, value.high], [place, place], color=style.colour(peer), lw=1.2, zorder=2 + order)
        axes.plot(value.median, place, "o", ms=12 if is_ours else 8, color=style.colour(peer), mec="white", zorder=3 + order)
    dot = typical(case, "numpy", "compute")
    assert dot is not None
    axes.annotate(f"{case['about']['flops'] / dot.median / 1e9:.0f} GFLOP/s", (1.015, place), xycoords=("axes fraction", "data"),
                  va="center", color=style.FAINT, fontsize=9, annotation_clip=False)  # fmt: skip


def _legend(axes: Any, peers: list[str]) -> None:
    handles = [axes.plot([], [], "o", ms=8, color=style.colour(peer), mec="white", label=style.label(peer))[0] for peer in peers]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(peers), frameon=False, fontsize=9,
                handletextpad=0.1, columnspacing=1.2)  # fmt: skip
