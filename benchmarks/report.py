"""RESULTS.md, written from a result document: what was to be reached, then every table, then the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.findings import Case, Document
from benchmarks.goals import Goal, goals
from benchmarks.statistics import ratios, short, spread

_MARKS = {True: "**yes**", False: "no", None: "–"}


def write(document: Document, path: Path, drawn: dict[str, str]) -> None:
    """``drawn``: names of plots beside it, in ``plots``, and what each shows."""
    path.write_text("\n".join(_lines(document, drawn)) + "\n", encoding="utf-8")


def _lines(document: Document, drawn: dict[str, str]) -> Iterator[str]:
    yield from _head(document)
    yield from _goals(goals(document))
    for name, sentence in drawn.items():
        yield from (f"## {sentence}", "", f"![{sentence}](plots/{name}.svg)", "")
    yield from (
        "## All times",
        "",
        "Seconds: median (least–most). In brackets: tilefleet's time over the peer's, paired by rounds.",
        "",
    )
    for name, work in document["works"].items():
        yield from _work(name, work)


def _head(document: Document) -> Iterator[str]:
    machine, changed = document["machine"], " with changes" if document["is_changed"] else ""
    yield from ("# Results of the bench", "")
    yield f"Written by `{document['command']}` on {document['date']}, at commit {document['commit']}{changed}. Do not edit;"
    yield "`make bench` repeats it. What each peer does and what counts: [README](README.md)."
    if document["is_quick"]:
        yield from ("", "**Quick: small sizes and few rounds. The goals are about larger ones.**")
    yield ""
    yield f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB; {machine['system']};"
    yield f"Python {machine['python']}; {machine['blas']}. Rounds: {document['rounds']}."
    yield ""
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + "."
    yield ""


def _goals(found: Sequence[Goal]) -> Iterator[str]:
    yield from ("## What was to be reached", "")
    yield from ("| work | reach | beyond | measured | reached | beyond |", "|---|---|---|---|---|---|")
    for goal in found:
        marks = f"{_MARKS[goal.is_reached]} | {_MARKS[goal.is_beyond]}"
        yield f"| {goal.work} | {goal.reach} | {goal.beyond} | {goal.measured} | {marks} |"
    yield ""


def _work(name: str, work: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "", f"{work['about']}. Took {work['took_s'] / 60:.1f} minutes.", "")
    if work["skipped"]:
        yield from (f"Not measured: {work['skipped']}.", "")
    peers = list(dict.fromkeys(peer for case in work["cases"] for peer in case["runs"]))
    if peers:
        yield "| | " + " | ".join(peers) + " |"
        yield "|---" * (len(peers) + 1) + "|"
        for case in work["cases"]:
            yield f"| {case['name']} | " + " | ".join(_cell(case, peer) for peer in peers) + " |"
        yield ""
    for peer, why in {peer: why for case in work["cases"] for peer, why in case["failed"].items()}.items():
        yield from (f"{peer}: {why}", "")
    if others := [run["others_cpu_s"] / run["s"] for case in work["cases"] for run in _all_runs(case) if run["s"] > 1]:
        yield from (f"Others on the machine meanwhile: {short(spread(others).median)} cores, {short(max(others))} at most.", "")


def _cell(case: Case, peer: str) -> str:
    times = [run["s"] for run in case["runs"].get(peer, ())]
    if not times:
        return ""
    ours = [run["s"] for run in case["runs"].get("tilefleet", ())]
    ratio = f" [{short(ratios(ours, times).median)}]" if ours and peer != "tilefleet" else ""
    return f"{spread(times)}{ratio}"


def _all_runs(case: Case) -> Iterator[dict[str, Any]]:
    for runs in case["runs"].values():
        yield from (run for run in runs if "others_cpu_s" in run)
