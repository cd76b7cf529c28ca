"""How plots look: one colour for each peer everywhere, ours the strongest; words beside lines instead of legends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, FAINT, GRID = "#22303c", "#6b7a86", "#e6eaed"
COLOURS = {
    "tilefleet": "#d9482b", "numpy": "#22303c", "dask-threads": "#2f7fb8", "dask-cluster": "#86bde0", "cubed": "#4f9d69",
    "ray": "#8a6bbf", "coursework": "#b0894f", "copy": "#9aa5ad", "dot": "#9aa5ad",
}  # fmt: skip
LABELS = {"numpy": "NumPy", "dask-threads": "Dask, threads", "dask-cluster": "Dask, cluster", "ray": "Ray", "copy": "a copy",
          "dot": "NumPy's dot alone"}  # fmt: skip
DPI = 160

mpl.use("Agg")
mpl.rcParams.update({
    "font.size": 10, "text.color": INK, "axes.labelcolor": FAINT, "axes.edgecolor": FAINT, "xtick.color": FAINT,
    "ytick.color": FAINT, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "axes.axisbelow": True, "svg.fonttype": "path", "svg.hashsalt": "tilefleet", "figure.facecolor": "white",
})  # fmt: skip


def figure(title: str, subtitle: str, width: float = 8.4, height: float = 5.0) -> tuple[Figure, Any]:
    """A figure with its only axes; the title says what is to be seen, the line below it how it was measured."""
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.add_subplot()
    axes.set_title(" ", fontsize=9.5, pad=8)  # keeps the room in which the line below the title stands
    below = axes.annotate(subtitle, (0.01, 1), (0, 9), xycoords=("figure fraction", "axes fraction"), textcoords="offset points",
                          fontsize=9.5, color=FAINT, annotation_clip=False)  # fmt: skip
    below.set_in_layout(False)
    made.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return made, axes


def label(peer: str) -> str:
    return LABELS.get(peer, peer)


def colour(peer: str) -> str:
    return COLOURS.get(peer, FAINT)


def line(axes: Any, peer: str, points: Sequence[tuple[float, float]]) -> None:
    """A peer's line; ours is thicker and on top, the floor dashed."""
    is_ours, is_floor = peer == "tilefleet", peer == "dot"
    axes.plot(
        *zip(*points, strict=True), color=colour(peer), lw=2.6 if is_ours else 1.4, ls=(0, (4, 3)) if is_floor else "-",
        marker="" if is_floor else "o", ms=5 if is_ours else 3.5, zorder=4 if is_ours else 3,
    )  # fmt: skip


def name_lines(axes: Any, ends: dict[str, tuple[float, float]], gap: float = 0.045) -> None:
    """Write each peer's name to the right of where its line ends (x, y), moved apart where names would meet."""
    axes.figure.draw_without_rendering()  # the layout must be known before names can be moved apart
    low, high = axes.transData.transform([(1, value) for value in axes.get_ylim()])[:, 1]
    heights = {peer: (axes.transData.transform(end)[1] - low) / (high - low) for peer, end in ends.items()}
    names = sorted(heights, key=lambda peer: heights[peer])
    for peer, at in zip(names, apart([heights[peer] for peer in names], gap), strict=True):
        weight = "bold" if peer == "tilefleet" else "normal"
        axes.annotate(label(peer), (1.015, at), xycoords="axes fraction", color=colour(peer), va="center", weight=weight,
                      annotation_clip=False)  # fmt: skip


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights up to 1, none closer to the next than ``gap``, moved as little as that takes."""
    moved = list(heights)
    for _ in range(100):
        for index in range(len(moved) - 1):
            if (lack := gap - (moved[index + 1] - moved[index])) > 1e-9:
                moved[index] -= lack / 2
                moved[index + 1] += lack / 2
        over = max(0.0, moved[-1] - 0.98)
        moved = [height - over for height in moved] if over else moved
    return moved


def save(made: Figure, path: Path) -> None:
    """As SVG and PNG; the same figure gives the same file."""
    made.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    made.savefig(path.with_suffix(".png"), dpi=DPI)
