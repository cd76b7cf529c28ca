from __future__ import annotations

import io

import msgspec
import pytest

from coordinator.cli import live, progress
from coordinator.cli.options import Progress
from tests.unit.cli.samples import CONTROL, DONE, ID, NOW_S, RECORD, RUNNING
from tilefleet.records import OperationStatus


def test_overall_names_the_stage_the_jobs_the_rates_and_what_is_left() -> None:
    assert progress.overall(RUNNING, 5.0) == progress.Bar("gemm", 6, 12, "6/12 jobs · 8 GFLOP/s · 200 MB/s · 5.0 s left")


def test_the_coordinators_estimate_comes_before_ours() -> None:
    assert progress.remaining(msgspec.structs.replace(RUNNING, remaining_s=75.0), 5.0) == "1 m 15 s left"


def test_no_estimate_before_a_tenth_is_done_nor_after_the_end() -> None:
    early = msgspec.structs.replace(RUNNING.stages[1], n_done=0)
    assert progress.remaining(msgspec.structs.replace(RUNNING, stages=(early,)), 5.0) == ""
    assert progress.remaining(DONE, 5.0) == ""


def test_before_there_are_stages_it_says_what_it_waits_for() -> None:
    queued = OperationStatus(id=ID, state="queued", epoch=1, note="waiting for a worker")
    assert progress.overall(queued, 2.0) == progress.Bar("waiting for a worker", 0, 0, "2.0 s")
    assert progress.overall(None, 2.0).label == "submitted"


def test_a_line_for_each_stage() -> None:
    assert progress.by_stage(RUNNING) == [
        progress.Bar("parse_b", 2, 2, "2/2 jobs · 500 ms"),
        progress.Bar("gemm", 4, 10, "4/10 jobs · 2.0 s"),
    ]


def test_a_line_for_each_worker_that_takes_part() -> None:
    only = ["node-1: 1 job held, 4 cores, 1.0 GiB, heard 2.0 s ago"]
    assert progress.by_worker(CONTROL, RUNNING.workers, NOW_S) == only
    assert len(progress.by_worker(CONTROL, (), NOW_S)) == 2
    assert progress.by_worker(None, (), NOW_S) == []


def test_milestones() -> None:
    assert progress.milestone(None) == "submitted"
    assert progress.milestone(RUNNING) == "running gemm, 10 jobs (done: parse_b)"
    assert progress.milestone(DONE) == "done in 1 m 15 s"


def test_on_a_pipe_full_progress_prints_each_milestone_once_and_summary_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for level in (Progress.FULL, Progress.SUMMARY, Progress.NONE):
        with live.display(RECORD, level) as shown:
            shown.update(RUNNING)
            shown.update(msgspec.structs.replace(RUNNING, updated_at=5.0))
            shown.update(DONE)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "multiply 7k2mq0xw3rt5: running gemm, 10 jobs (done: parse_b)",
        "multiply 7k2mq0xw3rt5: done in 1 m 15 s",
    ]


def test_what_the_bars_draw() -> None:
    from rich.console import Console

    bars = live.Bars(RECORD, is_full=True)
    bars.update(RUNNING, CONTROL)
    screen = Console(file=io.StringIO(), width=100, force_terminal=False)
    screen.print(bars)
    assert isinstance(screen.file, io.StringIO)
    drawn = screen.file.getvalue().splitlines()
    assert drawn[0] == "multiply 7k2mq0xw3rt5: 2 · a.npy @ my b.csvᵀ + 0.5 · c.zarr"
    assert [line.split()[0] for line in drawn[1:4]] == ["parse_b", "gemm", "all"]
    assert "4/10 jobs" in drawn[2]
    assert drawn[4].startswith("  node-1: 1 job held")


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_bars_where_they_are_not_wanted(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from coordinator.cli.session import is_live

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert is_live(Terminal())
    assert not is_live(io.StringIO())
    monkeypatch.setenv(variable, value)
    assert not is_live(Terminal())
