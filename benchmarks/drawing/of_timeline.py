"""One operation, second by second: for each worker a lane for what it fetches, computes, checks and commits."""

from __future__ import annotations

from typing import Any

from benchmarks.drawing import style
from benchmarks.findings import Document, fact, largest

PHASES = {"fetched": ("fetch", "#2f7fb8"), "computed": ("compute", "#d9482b"), "checked": ("check", "#e3a72f"),
          "committed": ("commit", "#4f9d69")}  # fmt: skip
LANE = 0.8  # the next one is 1 away; workers are one lane apart


def draw(document: Document) -> Any:
    lanes = fact(document, "timeline", "lanes")
    case = largest(document, "timeline")
    if not lanes or case is None:
        return None
    took_s = case["runs"]["tilefleet"][0]["s"]
    figure, axes = style.figure(
        f"One operation, second by second: {case['name']}",
        f"{took_s:.2f} s from submission to result; shaded are jobs, named by stage and number, two at a time for each worker",
        width=10, height=1.6 + 1.3 * len(lanes),
    )  # fmt: skip
    places = []
    for number, (worker, jobs) in enumerate(sorted(lanes.items())):
        top = number * (len(PHASES) + 1.6)
        places += [(top + lane, f"{worker}  {word}" if lane == 0 else word) for lane, (word, _) in enumerate(PHASES.values())]
        for order, job in enumerate(jobs):
            _job(axes, top, job, order, took_s)
    axes.axvline(took_s, color=style.INK, lw=1.2)
    axes.annotate(" result", (took_s, 1), xycoords=("data", "axes fraction"), va="top", fontsize=9)
    axes.set_yticks([place for place, _ in places], [word for _, word in places], color=style.INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set(xlim=(0, took_s * 1.08), ylim=(places[-1][0] + 0.7, -1.3))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    return figure


def _job(axes: Any, top: float, job: dict[str, Any], order: int, took_s: float) -> None:
    spans = [span for span in job["spans"] if span[0] in PHASES]
    if not spans:
        return
    began, ended = min(span[1] for span in spans), max(span[2] for span in spans)
    axes.broken_barh(
        [(began, ended - began)], (top - 0.55, len(PHASES) + 0.1), color=style.INK, alpha=0.05 + 0.05 * (order % 2), lw=0
    )
    above = 0.6 + 0.35 * (order % 2)  # as two may begin close to each other
    x, side = (began, "left") if began < 0.9 * took_s else (ended, "right")  # clear of the result's line
    axes.annotate(job["job"], (x, top - above), fontsize=7.5, color=style.FAINT, va="bottom", ha=side, clip_on=True)
    for lane, (phase, (_, colour)) in enumerate(PHASES.items()):
        bars = merged([(first, last) for name, first, last in spans if name == phase])
        axes.broken_barh([(first, last - first) for first, last in bars], (top + lane - LANE / 2, LANE), color=colour, lw=0)


def merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without overlaps."""
    found: list[tuple[float, float]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found
