"""Spot notices: what is read from the metadata service, and how long work may still go on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from workerd.spot import MARGIN_S, NOTICE_S, Notice, parse, time_left_s

AT = datetime(2026, 11, 22, 8, 22, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_an_interruption_names_its_time(action: str) -> None:
    body = f'{{"action": "{action}", "time": "2026-11-22T08:22:00Z"}}'.encode()
    assert parse("interruption", body) == Notice("interruption", AT, action)
    assert action in parse("interruption", body).reason


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"action": "terminate"}', b'{"action": 7, "time": "soon"}', b"\xff"])
def test_a_notice_that_cannot_be_read_is_one_all_the_same(body: bytes) -> None:
    assert parse("interruption", body) == Notice("interruption")
    assert time_left_s(Notice("interruption"), AT) == NOTICE_S - MARGIN_S


def test_a_recommendation_has_no_time_of_its_own() -> None:
    assert parse("rebalance", b'{"noticeTime": "2026-11-22T08:22:00Z"}') == Notice("rebalance")


@pytest.mark.parametrize(
    ("ahead_s", "left_s"),
    [
        (120.0, 105.0),
        (60.0, 45.0),
        (10.0, 0.0),  # the margin is all there is
        (-5.0, 0.0),
        (86_400.0, 105.0),  # the node's clock is a day behind
    ],
)
def test_work_ends_a_margin_before_the_instance_does(ahead_s: float, left_s: float) -> None:
    assert time_left_s(Notice("interruption", AT + ahead_s, "terminate"), AT) == left_s
