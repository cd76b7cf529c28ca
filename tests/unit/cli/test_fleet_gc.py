"""Which fleets are taken for dead, and what of theirs may go."""

from __future__ import annotations

import pytest

from coordinator.cli.fleet_gc import chosen, described, is_dead, removable
from coordinator.fleet.ec2.orphans import Traces
from coordinator.fleet.records import Belonging

NOW = 1_800_000_000.0
HOUR_S = 3600.0
INSTANCE = Belonging("instance", "i-1", "old", "n1, c7i.xlarge on-demand, running, launched 3 h ago")
DATA = (Belonging("data", "s3://tiles/x", "old", "12 objects"), Belonging("bucket", "tiles", "old", "made by the fleet"))


@pytest.mark.parametrize(
    ("found", "dead"),
    [
        (Traces("old", (INSTANCE,), created_at=NOW - 9 * HOUR_S, heard_at=NOW - 3 * HOUR_S), True),
        (Traces("old", (INSTANCE,), created_at=NOW - 9 * HOUR_S, heard_at=NOW - 1 * HOUR_S), False),
        (Traces("new", (INSTANCE,), created_at=NOW - 1 * HOUR_S), False),
        (Traces("never-heard", (INSTANCE,), created_at=NOW - 3 * HOUR_S), True),
        (Traces("alive", (INSTANCE,), created_at=NOW - 9 * HOUR_S, heard_at=NOW - 3 * HOUR_S, is_alive=True), False),
        (
            Traces("of-a-colleague", (INSTANCE,), created_at=NOW - 9 * HOUR_S, trouble="the store refused these credentials"),
            False,
        ),
    ],
)
def test_a_fleet_is_dead_when_nobody_was_heard_for_long_enough(found: Traces, dead: bool) -> None:
    assert is_dead(found, 2 * HOUR_S, NOW) is dead


def test_a_fleet_that_was_switched_off_goes_only_when_that_is_said() -> None:
    off = Traces("off", (INSTANCE,), created_at=NOW - 99 * HOUR_S, heard_at=NOW - 90 * HOUR_S, is_stopped=True)
    gone = Traces("gone", (INSTANCE,), created_at=NOW - 99 * HOUR_S, heard_at=NOW - 90 * HOUR_S)
    late = Traces("late", (INSTANCE,), created_at=NOW - 99 * HOUR_S, heard_at=NOW - 1 * HOUR_S, is_stopped=True)
    assert chosen([off, gone, late], 24 * HOUR_S, NOW, are_stopped_too=False) == ([gone], [off])
    assert chosen([off, gone, late], 24 * HOUR_S, NOW, are_stopped_too=True) == ([off, gone], [])


def test_data_is_never_garbage() -> None:
    found = Traces("old", (INSTANCE, *DATA), heard_at=NOW - 3 * HOUR_S, usd_per_hour=0.1785)
    assert removable(found) == [INSTANCE]
    text = described(found, NOW)
    assert text.startswith("fleet old: silent for 3 h, costs $0.178 an hour\n  instance  i-1  n1, c7i.xlarge")
    assert "kept: data s3://tiles/x (12 objects)" in text
