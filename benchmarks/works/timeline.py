"""One operation on two workers, second by second: what each fetched, computed, checked and committed when, by its own log."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import matrices, places
from benchmarks.checks import Expected
from benchmarks.peers.opening import open_array
from benchmarks.rounds import Case, once
from benchmarks.works import Bench, Outcome, Work
from benchmarks.works.products import product

STATE = "timeline"
WRITTEN_S = 0.5  # until the logs have what was done


def _timeline(bench: Bench) -> Outcome:
    n = bench.sizes[0] if bench.sizes else 2048 if bench.is_quick else 8192
    operation = product(n, n, n, "float64")
    operands = (str(matrices.path_of(operation.a)), str(matrices.path_of(operation.b)))
    expected = Expected("multiply", *(open_array(url) for url in operands))
    case = Case(operation.name, operation.about())
    (child,), _ = bench.pool.only(("tilefleet",), {"state": STATE, "log": "debug"})
    for _ in range(2):  # the first warms up
        run = once(operation, child, operands, str(places.OUTPUTS / "timeline.zarr"), expected)
    time.sleep(WRITTEN_S)
    case.add("tilefleet", run)
    bench.pool.only(())
    return Outcome([case], {"lanes": lanes(places.STATES / STATE / "logs", run["facts"])})


def lanes(logs: Path, facts: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By worker: its jobs of the operation that these facts are about, with spans in seconds since that was asked for."""
    found: dict[str, list[dict[str, Any]]] = {}
    for log in sorted(logs.glob("w*.log")):
        if jobs := list(jobs_in(log, facts["operation"], seconds(facts["began_at"]))):
            found[jobs[0]["worker"]] = jobs
    return found


def jobs_in(log: Path, operation: str, began: float) -> Iterator[dict[str, Any]]:
    """A finished job stands in two lines: how long it took until now, and its spans since it began."""
    start_s = 0.0
    for line in map(json.loads, filter(None, log.read_text().splitlines())):
        if line.get("operation") != operation:
            continue
        if line["event"] == "job_done":
            start_s = seconds(line["time"]) - line["total_s"] - began
        elif line["event"] == "job_spans":
            spans = [(phase, start_s + first, start_s + last) for phase, first, last in line["spans"]]
            yield {"worker": line["worker"], "job": line["job"], "spans": spans}


def seconds(time_of_day: str) -> float:
    return datetime.datetime.fromisoformat(time_of_day).timestamp()


WORKS = (Work("timeline", "one float64 product, when each worker fetches, computes, checks, commits; Freivalds", _timeline),)
