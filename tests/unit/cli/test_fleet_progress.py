"""Phase events in, lines and rows out."""

from __future__ import annotations

from coordinator.cli.fleet_progress import Steps, line, timings
from coordinator.fleet.ports import PhaseEvent


def test_a_line_says_when_who_what_and_how_long() -> None:
    assert line(PhaseEvent("n3", "packages", "done", 8.1), 12.3) == "  12.3 s  n3  packages done in 8.1 s"
    assert line(PhaseEvent("n3", "packages", "begun"), 12.3) == ""


def test_a_failure_brings_the_nodes_own_lines_below_it() -> None:
    text = line(PhaseEvent("n3", "packages", "failed", 3.0, "pip ended with 1\nNo space left on device"), 12.3)
    assert text == "  12.3 s  n3  packages FAILED after 3.0 s: pip ended with 1\n            No space left on device"


def test_rows_count_the_time_in_the_phase_and_in_all() -> None:
    steps = Steps()
    steps.take(PhaseEvent("n10", "launch", "begun"), 1.0)
    steps.take(PhaseEvent("n2", "launch", "begun"), 1.0)
    steps.take(PhaseEvent("n2", "launch", "done", 4.0), 5.0)
    steps.take(PhaseEvent("n2", "packages", "begun"), 5.0)
    first, second = steps.rows(8.0)
    assert (first.node, first.phase, first.phase_s, first.total_s) == ("n2", "packages", 3.0, 7.0)
    assert (second.node, second.phase, second.phase_s, second.total_s) == ("n10", "launch", 7.0, 7.0)


def test_a_node_that_is_done_is_timed_no_longer() -> None:
    steps = Steps()
    steps.take(PhaseEvent("n1", "hello", "begun"), 2.0)
    steps.take(PhaseEvent("n1", "hello", "done", 1.5), 3.5)
    (row,) = steps.rows(100.0)
    assert (row.state, row.phase_s, row.total_s) == ("done", 1.5, 1.5)


def test_tries_of_one_phase_add_up() -> None:
    steps = Steps()
    steps.take(PhaseEvent("n1", "packages", "failed", 3.0, "no"), 3.0)
    steps.take(PhaseEvent("n1", "packages", "done", 4.0), 9.0)
    assert steps.phases_s == {"n1": {"packages": 7.0}}


def test_the_table_of_times_has_the_phases_as_nodes_came_to_them_and_names_the_slowest_node() -> None:
    text = timings({"n1": {"launch": 1.0, "packages": 8.0}, "n2": {"packages": 10.0}, "n3": {"packages": 30.0, "odd": 1.0}})
    rows = [line.split() for line in text.splitlines()]
    assert [row[0] for row in rows] == ["phase", "launch", "packages", "odd"]
    assert rows[2] == ["packages", "3", "8.0", "s", "10.0", "s", "30.0", "s", "n3"]
    assert timings({}) == ""


def test_phases_that_took_no_time_are_left_out() -> None:
    assert line(PhaseEvent("n1", "boot", "done", 0.0002), 1.0) == ""
    assert timings({"n1": {"boot": 0.0002}}) == ""
