from __future__ import annotations

from datetime import UTC

import pytest

from coordinator.cli import render
from coordinator.cli.verifying import Outcome, outcomes_text
from tests.unit.cli.samples import DONE, ID, NOW_S, RECORD, RUNNING, TO_FILE, A
from tilefleet.errors import BadInput, ErrorInfo
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import OperationRecord, OperationStatus, Output, RandomSpec


def lines(text: str) -> list[str]:
    return text.strip("\n").splitlines()


def test_table_aligns_left_and_right_and_leaves_no_trailing_blanks() -> None:
    assert render.table([("a", "1", "x"), ("long", "200", "")], right=(1,)) == "a       1  x\nlong  200"
    assert render.table([]) == ""


def test_expression_names_files_transposes_and_factors() -> None:
    assert render.expression(RECORD) == "2 · a.npy @ my b.csvᵀ + 0.5 · c.zarr"
    assert render.expression(TO_FILE) == "a.npy + a.npy"


def test_expression_of_each_kind() -> None:
    def of(**fields: object) -> str:
        return render.expression(OperationRecord(id=ID, **fields))  # type: ignore[arg-type]

    assert of(kind="subtract", a=Operand(A), b=Operand(A, True)) == "a.npy − a.npyᵀ"
    assert of(kind="scale", a=Operand(A), alpha="-1") == "-1 · a.npy"
    assert of(kind="transpose", a=Operand(A, True)) == "a.npyᵀ"
    assert of(kind="convert", a=Operand(A), out=Output(url="file:///x/a.zarr")) == "a.npy → a.zarr"
    assert of(kind="convert", a=Operand(A)) == "a.npy → zarr"
    spec = RandomSpec(shape=(2, 3), dtype="int8", low="0", high="10", seed=7)
    assert of(kind="random", random=spec) == "2 × 3 int8 in [0, 10), seed 7"
    assert of(kind="verify", verifies="abc", a=Operand(A), b=Operand(A)) == "abc: a.npy and a.npy"


def test_a_result_of_ours_is_named_by_its_operation() -> None:
    earlier = MatrixRef(url="s3://b/p/matrices/0123456789ab", format="zarr", shape=(1, 1), dtype="int8", tile=(1, 1))
    assert render.expression(OperationRecord(id=ID, kind="scale", a=Operand(earlier), alpha="2")) == "2 · result of 0123456789ab"


def test_report_without_out_says_where_how_long_and_how_to_fetch() -> None:
    assert lines(render.report(RECORD, DONE, kept_for="7 d", zone=UTC)) == [
        "multiply 7k2mq0xw3rt5: 2 · a.npy @ my b.csvᵀ + 0.5 · c.zarr",
        "  result   2000 × 500 float64",
        "           /state/store/matrices/7k2mq0xw3rt5",
        "  kept     until 2027-01-22 08:00:00 (7 d)",
        "  fetch    tilefleet get 7k2mq0xw3rt5 OUT",
        "  checked  10 blocks against their operands; worst residual 0.02 of what rounding may cause",
        "  rate     8 GFLOP/s",
    ]


def test_report_with_out_names_the_file() -> None:
    assert lines(render.report(TO_FILE, DONE))[1] == "  result   2000 × 500 float64 in /data/sum.npy"
    assert "fetch" not in render.report(TO_FILE, DONE)
    assert lines(render.report(RECORD, DONE, place="/home/c.npy"))[1] == "  result   2000 × 500 float64 in /home/c.npy"


def test_times_shows_what_was_chosen_in_the_order_of_the_phases() -> None:
    assert lines(render.times(DONE.phases_s)) == [
        "  phase            time",
        "  submit           4 ms",
        "  ingest         500 ms",
        "  plan             1 ms",
        "  queue wait      20 ms",
        "  compute         4.0 s",
        "  commit         250 ms",
        "  total        1 m 15 s",
    ]
    assert lines(render.times(DONE.phases_s, render.chosen_phases("total, compute")))[1:] == [
        "  compute      4.0 s",
        "  total     1 m 15 s",
    ]
    assert render.times(DONE.phases_s, ()) == ""


def test_times_puts_numpy_beside() -> None:
    table = render.times(DONE.phases_s, ("ingest", "compute", "export"), {"ingest": 2.0, "compute": 31.0, "export": 0.1})
    assert lines(table) == [
        "  phase       time   NumPy here",
        "  ingest    500 ms        2.0 s",
        "  compute    4.0 s       31.0 s",
        "  export                 100 ms",
    ]


@pytest.mark.parametrize(
    ("text", "phases"),
    [("all", render.PHASES), ("none", ()), ("total,compute", ("compute", "total")), ("queue wait", ("queue_wait",))],
)
def test_chosen_phases(text: str, phases: tuple[str, ...]) -> None:
    assert render.chosen_phases(text) == phases


def test_an_unknown_phase_is_named_with_those_that_exist() -> None:
    with pytest.raises(BadInput, match=r"no phase 'cpu'; choose from submit, ingest,"):
        render.chosen_phases("total,cpu")


def test_listing() -> None:
    assert lines(render.listing([(RECORD, RUNNING), (TO_FILE, DONE), (TO_FILE, None)], NOW_S)) == [
        "ID            STATE         KIND      WHAT                                  RESULT          TIME  AGE",
        "7k2mq0xw3rt5  running 6/12  multiply  2 · a.npy @ my b.csvᵀ + 0.5 · c.zarr                        1 m",
        "7k2mq0xw3rt5  done          add       a.npy + a.npy                         2000 × 500  1 m 15 s  1 m",
        "7k2mq0xw3rt5  submitted     add       a.npy + a.npy                                               1 m",
    ]


def test_details_of_a_failed_operation() -> None:
    failed = OperationStatus(
        id=ID, state="failed", epoch=1, error=ErrorInfo("bad_input", "line 3 of /data/my b.csv has 4 columns"), finished_at=NOW_S
    )
    assert lines(render.details(RECORD, failed, zone=UTC)) == [
        "id         7k2mq0xw3rt5",
        "kind       multiply",
        "what       2 · a.npy @ my b.csvᵀ + 0.5 · c.zarr",
        "state      failed",
        "A          /data/a.npy (2000 × 300 int64)",
        "B          /data/my b.csv (CSV, shape not known yet, transposed)",
        "C          s3://bucket/c.zarr (2000 × 500 float64)",
        "error      line 3 of /data/my b.csv has 4 columns [bad_input]",
        "finished   2027-01-15 08:00:00",
        "submitted  2027-01-15 07:58:30 by ada@engine",
        "command    tilefleet multiply a.npy 'my b.csv'",
    ]


def test_details_show_stages_and_times() -> None:
    text = render.details(RECORD, DONE, zone=UTC)
    assert "  gemm    10/10               4.0 s" in lines(text)
    assert "moved       1.0 GiB read, 1.0 MiB written by the workers" in lines(text)
    assert text.endswith("total        1 m 15 s")


@pytest.mark.parametrize(
    ("per_s", "text"), [(8.13e9, "8.13 GFLOP/s"), (1.5e12, "1.5 TFLOP/s"), (12.0, "12 FLOP/s"), (999.0, "999 FLOP/s")]
)
def test_rate(per_s: float, text: str) -> None:
    assert render.rate_text(per_s, "FLOP/s") == text


def test_ages() -> None:
    assert [render.age_text(NOW_S - ago, NOW_S) for ago in (-5, 12, 300, 90000)] == ["0 s", "12 s", "5 m", "1 d"]


def test_outcomes_of_verify_all() -> None:
    outcomes = [
        Outcome("7k2mq0xw3rt5", "a @ b", "x", "correct"),
        Outcome("0123456789ab", "c + d", None, "", ErrorInfo("wrong_result", "rows 0 to 9 differ")),
    ]
    assert lines(outcomes_text(outcomes)) == [
        "OPERATION     WHAT   VERDICT",
        "7k2mq0xw3rt5  a @ b  correct",
        "0123456789ab  c + d  wrong_result: rows 0 to 9 differ",
    ]
    assert outcomes_text([]) == "no operation has a result to verify"


def test_what_was_uploaded_and_fetched_has_the_users_own_names() -> None:
    staged = MatrixRef(f"s3://bucket/staging/{ID}/a", "npy", (2, 2), "int8")
    far = OperationRecord(ID, "convert", a=Operand(staged), names={"a": "/home/ada/my a.npy", "out": "/home/ada/t.npy"})
    assert render.expression(far) == "my a.npy → t.npy"
    shown = lines(render.details(far, None))
    assert "A          /home/ada/my a.npy (2 × 2 int8)" in shown
    assert "out        /home/ada/t.npy (workers cannot see it: whoever waits fetches the result)" in shown
