"""How long each peer takes, tilefleet being 1: bars to the right are slower than we, to the left quicker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.drawing import style
from benchmarks.findings import PEERS, Document, cases, largest, ratio
from benchmarks.statistics import Spread, short

LARGEST_OF = ("product-float64", "product-float32", "product-complex128", "product-wide", "product-deep", "add", "s3")
ALL_OF = ("product-int64", "coursework")
SHOWN = (*PEERS, "coursework", "copy")
HEIGHT = 0.8  # of a bar, the next one being 1 away
GAP = 0.9  # between groups


def draw(document: Document) -> Any:
    groups = list(_groups(document))
    if not groups:
        return None
    n_bars = sum(len(group) for _, group in groups)
    figure, axes = style.figure(
        "How long the others take, tilefleet being 1",
        "medians of ratios paired by rounds, and their spread; right of the line is slower than tilefleet",
        height=1.5 + 0.2 * (n_bars + GAP * len(groups)),
    )
    axes.set(xscale="log")
    place, middles = 0.0, []
    for _, group in groups:
        middles.append(place + (len(group) - 1) / 2)
        for peer, times in group:
            _bar(axes, place, peer, times)
            place += 1
        place += GAP
    axes.set_yticks(middles, [name for name, _ in groups], color=style.INK)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(place - GAP - 0.3, -0.7)
    axes.grid(visible=False, axis="y")
    axes.axvline(1, color=style.colour("tilefleet"), lw=2)
    _scale(axes, [times for _, group in groups for _, times in group])
    return figure


def _groups(document: Document) -> Iterator[tuple[str, list[tuple[str, Spread]]]]:
    found = [case for work in LARGEST_OF if (case := largest(document, work)) is not None]
    for case in [*found, *(case for work in ALL_OF for case in cases(document, work))]:
        group = [(peer, value) for peer in SHOWN if (value := ratio(case, "tilefleet", ours=peer)) is not None]
        if group:
            yield case["name"].replace("[-2147483648, 2147483648)", "[−2³¹, 2³¹)"), group


def _bar(axes: Any, place: float, peer: str, times: Spread) -> None:
    axes.barh(place, times.median - 1, left=1, height=HEIGHT, color=style.colour(peer))
    axes.plot([times.low, times.high], [place, place], color=style.INK, lw=0.8, solid_capstyle="butt")
    is_slower = times.median >= 1
    end = max(times.high, 1) if is_slower else min(times.low, 1)
    axes.annotate(f"{style.label(peer)} {short(times.median)}", (end, place), (5 if is_slower else -5, 0), fontsize=8,
                  textcoords="offset points", va="center", ha="left" if is_slower else "right")  # fmt: skip


def _scale(axes: Any, found: list[Spread]) -> None:
    """Room for the words at both ends."""
    least, most = min(0.9, *(times.low for times in found)), max(1.1, *(times.high for times in found))
    left, right = least * 0.3, most * 1.9
    axes.set_xlim(left, right)
    axes.set_xticks([tick for tick in (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if left <= tick <= right])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    axes.minorticks_off()
