"""The plots: one module each, with ``draw(document)``, which is None where nothing for it was measured. Needs matplotlib."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from benchmarks.findings import Document

PLOTS = {
    "time": "Time against n",
    "ratios": "How long the others take, tilefleet being 1",
    "roofline": "Share of the machine's peak that each reaches",
    "cost": "What a petaflop costs, against the size of the work",
    "nodes": "Speed-up against nodes",
    "timeline": "One operation, second by second",
}
"""Module below ``benchmarks.drawing``, prefixed with ``of_``, and what it shows."""


def draw_all(document: Document, directory: Path) -> dict[str, str]:
    """Write each plot as SVG and PNG; those that there was something for, with what they show."""
    from benchmarks.drawing import style

    directory.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, sentence in PLOTS.items():
        figure = import_module(f"benchmarks.drawing.of_{name}").draw(document)
        if figure is not None:
            style.save(figure, directory / name)
            drawn[name] = sentence
    return drawn
