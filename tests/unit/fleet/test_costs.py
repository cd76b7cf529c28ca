"""What machines have cost: while they run, not while they are off, and for good when they are gone."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.fleet.money.costs import node_usd, rate_usd_per_hour, spent_usd
from coordinator.fleet.records import FleetRecord, NodeRecord

NOW = 1_800_000_000.0
RUNNING = NodeRecord("n1", "i-1", "ready", launched_at=NOW - 7200, usd_per_hour=0.5)


def test_a_running_machine_costs_its_hours() -> None:
    assert node_usd(RUNNING, NOW) == 1.0
    assert node_usd(NodeRecord("n2", ""), NOW) == 0, "it was never launched"


def test_a_machine_that_is_off_or_gone_costs_no_more() -> None:
    assert node_usd(replace(RUNNING, stopped_at=NOW - 3600), NOW) == 0.5
    assert node_usd(replace(RUNNING, ended_at=NOW - 5400), NOW) == 0.25
    again = replace(RUNNING, spent_usd=0.5, launched_at=NOW - 3600)
    assert node_usd(again, NOW) == 1.0


def test_the_fleet_is_the_sum_with_those_that_were_forgotten() -> None:
    gone = replace(RUNNING, name="n2", ended_at=NOW - 3600)
    fleet = FleetRecord("demo", "u", NOW - 1e5, spent_usd=3.0)
    assert spent_usd(fleet, [RUNNING, gone], NOW) == 4.5
    assert spent_usd(None, [], NOW) == 0
    assert rate_usd_per_hour([RUNNING, gone, replace(RUNNING, stopped_at=NOW)]) == 0.5
