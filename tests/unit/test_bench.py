"""What the bench makes of its numbers: ratios within rounds, goals, the report, comparisons and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, record, report
from benchmarks.catalogue import works
from benchmarks.goals import goals
from benchmarks.statistics import ratios, spread

MACHINE = {"cpu": "any", "cores": 2, "memory_bytes": 2**34, "system": "Linux", "python": "3.11", "blas": "openblas"}


def document(ours: list[float], numpys: list[float]) -> dict[str, Any]:
    """A result of one case."""
    about = {"kind": "multiply", "m": 8192, "k": 8192, "n": 8192, "dtype": "float64", "flops": 2 * 8192**3}
    runs = {
        "tilefleet": [{"s": s, "parts_s": {}, "facts": {}, "others_cpu_s": 0.1} for s in ours],
        "numpy": [{"s": s, "parts_s": {"compute": 0.8 * s}, "facts": {}, "others_cpu_s": 0.1} for s in numpys],
    }
    case = {"name": "float64 8192²", "about": about, "runs": runs, "failed": {"ray": "it does not start"}}
    work = {"about": "a product", "took_s": 60.0, "cases": [case], "facts": {}, "skipped": ""}
    return {"schema": record.SCHEMA, "date": "2026-01-01", "commit": "abc", "is_changed": False, "is_quick": False, "rounds": 3,
            "command": "make bench", "machine": MACHINE, "versions": {}, "works": {"product-float64": work}}  # fmt: skip


def test_a_ratio_is_taken_within_a_round() -> None:
    assert ratios([1.0, 10.0, 3.0], [2.0, 20.0, 6.0]) == spread([0.5, 0.5, 0.5])
    assert ratios([1.0, 10.0], [2.0]).n == 1


def test_what_was_measured_is_judged_and_what_was_not_says_so() -> None:
    found = goals(document([10.0, 11.0, 12.0], [10.5, 11.5, 12.5]))
    first, *others = found
    assert (first.work, first.is_reached) == ("float64 8192²", True)
    assert next(goal for goal in others if "dot alone" in goal.beyond).is_beyond is False
    assert {goal.is_reached for goal in found if goal.measured == "not measured"} == {None}


def test_the_report_names_what_is_missing(tmp_path: Path) -> None:
    report.write(document([10.0], [20.0]), tmp_path / "RESULTS.md", {"time": "Time against n"})
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "ray: it does not start" in text
    assert "20.00 [0.500]" in text
    assert "![Time against n](plots/time.svg)" in text


@pytest.mark.parametrize(
    ("new", "status"),
    [([10.0, 10.5], compare.SAME), ([12.0, 12.5], compare.SLOWER), ([], compare.INCOMPARABLE), (None, compare.INCOMPARABLE)],
)
def test_a_comparison_says_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: list[float] | None, status: int
) -> None:
    old, other = tmp_path / "old.json", tmp_path / "new.json"
    record.save(document([10.0, 10.2], [9.0, 9.0]), old)
    other.write_text(json.dumps({"schema": 0}) if new is None else json.dumps(document(new, [9.0, 9.0])))
    monkeypatch.setattr("sys.argv", ["compare", str(old), str(other)])
    assert compare.main() == status


def test_every_work_is_there() -> None:
    assert {"product-float64", "small", "s3", "memory", "csv", "coursework", "coordinator", "scale", "nodes"} <= set(works())
