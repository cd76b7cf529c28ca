"""What the bench makes of its numbers: ratios within rounds, goals, the report, comparisons and their exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, places, readme, record, report
from benchmarks.__main__ import arguments
from benchmarks.catalogue import works
from benchmarks.children import Child, PeerFailedError, standing_still
from benchmarks.goals import goals
from benchmarks.pool import Pool
from benchmarks.statistics import ratios, spread
from benchmarks.works import Bench
from benchmarks.works.scale import sentence

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


def test_the_scheduler_is_judged_without_the_beacon_which_is_told_of_beside_it() -> None:
    facts = {"n_workers": 10, "n_jobs": 1000, "events": 4000, "makespan_s": 12.0, "ideal_s": 10.0, "peak_bytes": 90_000_000}
    run = {"s": 1.0, "cpu_s": 0.2, "parts_s": {"scheduler": 0.04, "beacon": 0.02}, "facts": facts, "others_cpu_s": 0.0}
    made = document([10.0], [20.0])
    made["works"]["scale"] = {"cases": [{"name": "10 workers", "about": {}, "runs": {"scheduler": [run]}, "failed": {}}]}
    found = {goal.reach or goal.beyond: goal for goal in goals(made)}
    per_job = found["≤ 0.05 ms per job in the scheduler"]
    assert (per_job.is_reached, per_job.measured) == (True, "0.040 ms, and 0.020 ms in the beacon")
    assert found["≥ 50,000 events/s in the scheduler"].is_reached
    assert "0.040 ms per job and 0.020 of the beacon" in sentence(run)


def test_peers_stand_still_while_another_is_measured_and_go_on_after_a_failure() -> None:
    class Peer(Child):
        def __init__(self, pid: int) -> None:
            self.name, self._watched = "idle", [pid]

    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            with pytest.raises(PeerFailedError), standing_still([Peer(process.pid)]):
                assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
                raise PeerFailedError
            assert os.WIFCONTINUED(os.waitpid(process.pid, os.WCONTINUED)[1])
        finally:
            process.kill()


def test_every_work_is_there() -> None:
    assert {"product-float64", "small", "s3", "memory", "csv", "coursework", "coordinator", "scale", "nodes"} <= set(works())


def test_a_run_that_was_stopped_goes_on_where_it_is_the_same_run(tmp_path: Path) -> None:
    with Pool() as pool:
        bench = Bench(5, True, print, pool)
        kept, path = record.begin(bench), tmp_path / "kept.json"
        kept["works"]["small"] = {"cases": []}
        record.save(kept, path)
        assert record.resume(record.load(path), bench)["works"] == {"small": {"cases": []}}
        with pytest.raises(SystemExit, match="another rounds than this run would have"):
            record.resume(record.load(path), Bench(3, True, print, pool))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--rounds 0", "'0' is no number above 0"),
        ("--sizes 1024,x", "'x' is no number above 0"),
        ("--peers numpy,spark", "there is no peer 'spark'; there are numpy, dask-threads,"),
        ("--json {here}/none/there.json", "is no place for a file; name one in a directory that exists"),
        ("--draw {here}/none.json", "none.json cannot be read: No such file or directory"),
        ("--draw {here}/other.json", "other.json is no result of this bench"),
        ("--resume {here}/broken.json", "broken.json is no result of this bench"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_measured(
    given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "broken.json").write_text('{"schema": 1, ')
    monkeypatch.setattr("sys.argv", ["benchmarks", *given.format(here=tmp_path).split()])
    with pytest.raises(SystemExit) as ended:
        arguments()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_table_in_the_readme_is_that_of_the_run_in_results_md(tmp_path: Path) -> None:
    said = re.search(r"at commit (\w+)", places.REPORT.read_text())
    assert said is not None
    (kept,) = places.RESULTS.glob(f"*-{said[1]}.json")
    copy, original = tmp_path / "README.md", places.ROOT / "README.md"
    copy.write_text(original.read_text())
    readme.write(json.loads(kept.read_text()), copy)
    assert copy.read_text() == original.read_text()
