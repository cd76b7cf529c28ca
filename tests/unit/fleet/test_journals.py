"""The journals of many nodes: what a line says, the order they come out in, and how they look."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.fleet.journals import OPENING_S, WINDOW_S, Line, Merger, Wanted, as_document, as_text, command, parse

AT_US = 1_795_381_445_123_456  # 2026-11-22 21:04:05.123456 UTC


def entry(message: Any, **fields: str) -> str:
    """As ``journalctl --output=json`` writes it."""
    known = {"__REALTIME_TIMESTAMP": str(AT_US), "PRIORITY": "6", "_SYSTEMD_UNIT": "workerd.service", "__CURSOR": "s=1;i=2"}
    return json.dumps(known | {"MESSAGE": message} | fields)


def ours(event: str, level: str = "info", **fields: Any) -> str:
    return entry(json.dumps({"event": event, "level": level, "time": "2026-11-22T21:04:05.100000Z", "worker": "n1", **fields}))


def parsed(text: str) -> Line:
    line = parse("n1", text)
    assert line is not None
    return line


def line(at_us: int, node: str = "n1") -> Line:
    return Line(at_us, node, 0, "workerd", "info", "job_done", {})


class TestParsing:
    def test_a_line_of_ours(self) -> None:
        found = parsed(ours("job_failed", "warning", operation="cpjh305aeqnm", error="no such file"))
        assert (found.at_us, found.unit, found.level, found.event, found.cursor) == (
            AT_US, "workerd", "warning", "job_failed", "s=1;i=2",
        )  # fmt: skip
        assert found.fields["operation"] == "cpjh305aeqnm"

    @pytest.mark.parametrize(
        ("priority", "level"), [("3", "error"), ("0", "error"), ("4", "warning"), ("5", "info"), ("6", "info"), ("7", "debug")]
    )
    def test_what_is_not_json_has_the_level_of_its_priority(self, priority: str, level: str) -> None:
        found = parsed(entry("Segmentation fault", PRIORITY=priority))
        assert (found.event, found.text, found.level) == ("", "Segmentation fault", level)

    def test_what_systemd_says_about_a_unit_belongs_to_it(self) -> None:
        assert parsed(entry("Started workerd.", _SYSTEMD_UNIT="init.scope", UNIT="workerd.service")).unit == "workerd"

    def test_bytes_that_are_not_utf_8_come_as_numbers(self) -> None:
        assert parsed(entry([255, 104, 105])).text == "\ufffdhi"

    @pytest.mark.parametrize("message", [None, [], {}, 7, "{", "{}", '{"event": 1}', '["event"]'])
    def test_odd_messages_are_text(self, message: Any) -> None:
        assert parsed(entry(message)).event == ""

    @given(st.text() | st.just(json.dumps({"__REALTIME_TIMESTAMP": "x"})) | st.just("-- No entries --"))
    def test_what_is_no_line_is_passed_over(self, text: str) -> None:
        assert parse("n1", text) is None


class TestWhatIsWanted:
    def test_by_level_and_operation(self) -> None:
        done = parsed(ours("job_done", operation="cpjh305aeqnm"))
        other = parsed(ours("worker_ready"))
        assert Wanted("cpjh").admits(done)
        assert not Wanted("cpjh").admits(other)
        assert Wanted(level="info").admits(other)
        assert not Wanted(level="warning").admits(other)

    def test_what_is_asked_of_a_node(self) -> None:
        tail = command(Wanted(), since_s=None, count=50, follow=False)
        assert "--unit=workerd --unit=coordinator --lines=50" in tail
        assert "--since=-600s --no-tail --follow" in command(Wanted(), since_s=600, count=50, follow=True)
        again = command(Wanted(), since_s=600, count=50, follow=True, cursor="s=1;i=2")
        assert "'--after-cursor=s=1;i=2' --no-tail --follow" in again
        filtered = command(Wanted("a'; reboot"), since_s=None, count=50, follow=False)
        assert "--lines" not in filtered
        assert """grep --line-buffered -F -e 'a'"'"'; reboot'""" in filtered


streams = st.dictionaries(
    st.sampled_from(["n1", "n2", "n3", "n4"]), st.lists(st.integers(0, 50), max_size=12).map(sorted), min_size=1
)


class TestTheOrder:
    @given(streams, st.randoms(use_true_random=False))
    def test_whatever_arrives_first_all_come_out_in_the_order_of_time(self, streams: dict[str, list[int]], chance: Any) -> None:
        merger = Merger(streams, follow=False)
        left = {node: list(times) for node, times in streams.items()}
        shown: list[Line] = []
        while left:
            node = chance.choice(sorted(left))
            if left[node]:
                merger.push(line(left[node].pop(0), node), 0.0)
            else:
                del left[node]
                merger.ended(node)
            shown += merger.take(0.0)
        assert [one.at_us for one in shown] == sorted(time for times in streams.values() for time in times)
        for node, times in streams.items():
            assert [one.at_us for one in shown if one.node == node] == times

    @given(st.lists(st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.floats(0, 20), st.floats(0, WINDOW_S * 0.9)), max_size=30))
    def test_followed_lines_that_are_not_later_than_the_window_come_out_in_order(
        self, said: list[tuple[str, float, float]]
    ) -> None:
        merger = Merger(["n1", "n2", "n3", "silent"], follow=True)
        for node in ("n1", "n2", "n3", "silent"):
            merger.opened(node)
        shown: list[Line] = []
        for arrived_s, at_s, node in sorted((at_s + late_s, at_s, node) for node, at_s, late_s in said):
            shown += merger.take(arrived_s)
            merger.push(line(round(at_s * 1e6), node), arrived_s)
        shown += merger.take(20 + 2 * WINDOW_S)
        assert len(shown) == len(said)
        assert [one.at_us for one in shown] == sorted(one.at_us for one in shown)

    def test_a_silent_node_holds_lines_up_for_the_window_and_no_longer(self) -> None:
        merger = Merger(["n1", "n2"], follow=True)
        merger.opened("n2")
        merger.push(line(1), 100.0)
        assert merger.take(100.0 + 0.9 * WINDOW_S) == []
        assert len(merger.take(100.0 + WINDOW_S)) == 1

    def test_while_nodes_are_connected_to_lines_wait_longer(self) -> None:
        merger = Merger(["n1", "n2", "slow to connect"], follow=True)
        merger.push(line(2, "n1"), 100.0)
        assert merger.take(100.0 + WINDOW_S) == []
        merger.push(line(1, "n2"), 100.0)
        assert [one.node for one in merger.take(100.0 + OPENING_S)] == ["n2", "n1"]

    def test_a_node_that_cannot_be_reached_does_not_make_others_wait_longer(self) -> None:
        merger = Merger(["n1", "n2"], follow=True)
        merger.opened("n2")  # or will not be
        merger.push(line(2, "n1"), 100.0)
        assert len(merger.take(100.0 + WINDOW_S)) == 1

    def test_lines_of_one_microsecond_keep_their_order(self) -> None:
        merger = Merger(["n1"], follow=False)
        for event in "abc":
            merger.push(line(5)._replace(event=event), 0.0)
        merger.ended("n1")
        assert [one.event for one in merger.take(0.0)] == ["a", "b", "c"]


class TestHowItLooks:
    def test_a_line_of_ours_for_people(self) -> None:
        found = parsed(ours("job_failed", "warning", operation="cpjh305aeqnm", attempt=2, error='said "no"'))
        assert as_text(found, UTC, node_width=3) == (
            '2026-11-22 21:04:05.123  n1   warning  job_failed          operation=cpjh305aeqnm attempt=2 error="said \\"no\\""'
        )

    def test_a_line_of_somebody_else(self) -> None:
        found = parsed(entry("Main process exited, status=9/KILL", PRIORITY="4"))
        assert as_text(found, UTC) == "2026-11-22 21:04:05.123  n1  warning  workerd: Main process exited, status=9/KILL"

    def test_for_programs_it_is_what_the_daemon_wrote_and_where(self) -> None:
        found = parsed(ours("job_done", operation="cpjh305aeqnm"))
        assert as_document(found) == {
            "event": "job_done", "level": "info", "time": "2026-11-22T21:04:05.123456Z", "worker": "n1",
            "operation": "cpjh305aeqnm", "node": "n1", "unit": "workerd",
        }  # fmt: skip
        assert as_document(parsed(entry("hello")))["text"] == "hello"

    @given(st.text(), st.text(min_size=1))
    def test_nothing_in_a_line_moves_the_cursor_or_looks_like_another_line(self, text: str, value: str) -> None:
        for found in (parsed(entry(text)), parsed(ours("job_done", error=value, fields={"a\x1b[2Jb": [value]}))):
            shown = as_text(found, UTC)
            assert not [sign for sign in shown if ord(sign) < 32 or 127 <= ord(sign) < 161]
