"""The cost line."""

from __future__ import annotations

import pytest

from coordinator.fleet.money.spending import Beside, Lot, cost_line, end_of, lifetime_s_of, own_machines_line, usd_text
from coordinator.fleet.records import Price, Role
from tilefleet.fleet_config import NodesSection

PRICE = Price("c7i.xlarge", "on-demand", 0.1785, "price list of 2026-11-01")
SMALL = Price("t3.small", "on-demand", 0.0208, "price list of 2026-11-01")


def test_the_cost_line_says_what_an_hour_and_a_day_cost_and_how_it_is_known() -> None:
    assert cost_line([Lot(4, PRICE)]) == (
        "4 × c7i.xlarge on-demand: $0.714 an hour, $17.14 a day, plus S3 and SQS requests (price list of 2026-11-01)"
    )


def test_disks_and_addresses_are_in_the_sum_and_said() -> None:
    assert cost_line([Lot(4, PRICE), Lot(1, SMALL)], beside=Beside(16, 0.01)) == (
        "4 × c7i.xlarge on-demand and 1 × t3.small on-demand: $0.785 an hour, $18.84 a day, with about $0.0100 an hour "
        "each for 16 GiB of disk and a public IPv4 address, plus S3 and SQS requests (price list of 2026-11-01)"
    )
    assert "$" not in cost_line([Lot(2, None, "x9z.large", "spot")], beside=Beside(16, 0.01))


def test_machines_of_several_kinds_are_added_up() -> None:
    line = cost_line([Lot(4, PRICE), Lot(1, SMALL), Lot(0, SMALL)])
    assert line.startswith("4 × c7i.xlarge on-demand and 1 × t3.small on-demand: $0.735 an hour, $17.64 a day")
    assert line.count("price list of 2026-11-01") == 1


def _end_of(max_cost_usd: float = 0.0, max_hours: float = 0.0) -> str:
    return end_of(NodesSection(max_cost_usd=max_cost_usd, max_hours=max_hours), lifetime_s=24 * 3600, dead_man_s=1800)


def test_a_budget_is_what_ends_it() -> None:
    assert _end_of(max_cost_usd=10) == "the fleet ends at $10.00"
    assert _end_of(max_cost_usd=10, max_hours=5) == "the fleet ends at $10.00 or after 5 h"
    assert cost_line([Lot(4, PRICE)], ends="the fleet ends at $10.00").endswith("2026-11-01); the fleet ends at $10.00")


def test_a_coordinator_node_without_a_budget_is_where_the_fleet_ends() -> None:
    nodes = NodesSection(provider="ec2", coordinator="node")
    assert end_of(nodes, lifetime_s=24 * 3600, dead_man_s=1800) == (
        "the fleet ends with its coordinator's node, 24 h after that is launched, and the workers when they have not heard it "
        "for 30 min, also in the middle of work (nodes.max_hours or nodes.max_cost_usd sets another end)"
    )
    assert end_of(nodes, lifetime_s=0, dead_man_s=1800).startswith("the fleet ends when you say so")


@pytest.mark.parametrize(
    ("role", "nodes", "dead_man_s", "lifetime_s"),
    [
        ("coordinator", NodesSection(provider="ec2", coordinator="node", max_hours=72), 1800, 0),
        ("coordinator", NodesSection(provider="ec2", coordinator="node", max_cost_usd=5), 1800, 0),
        (
            "coordinator",
            NodesSection(provider="ec2", coordinator="node", max_hours=72),
            0,
            86400,
        ),  # would run for ever, once dead
        ("coordinator", NodesSection(provider="ec2", coordinator="node"), 1800, 86400),
        ("coordinator", NodesSection(provider="hosts", coordinator="node", max_hours=72), 1800, 86400),  # it may be a worker too
        ("worker", NodesSection(provider="ec2", coordinator="node", max_hours=72), 1800, 86400),
    ],
)
def test_a_budget_and_not_a_lifetime_ends_a_coordinator_node(
    role: Role, nodes: NodesSection, dead_man_s: float, lifetime_s: float
) -> None:
    assert lifetime_s_of(role, nodes, lifetime_s=86400, dead_man_s=dead_man_s) == lifetime_s


def test_a_lifetime_is_no_end_as_machines_are_replaced() -> None:
    assert _end_of() == (
        "a machine ends after 24 h, and is replaced while a coordinator runs; the fleet ends when you say so, or when no "
        "coordinator runs (nodes.max_cost_usd sets a limit)"
    )
    without = end_of(NodesSection(), lifetime_s=0, dead_man_s=0)
    assert without == "the fleet ends when you say so (nodes.max_cost_usd sets a limit)"


def test_the_price_of_spot_is_not_the_whole_story_where_on_demand_stands_in() -> None:
    spot = Price("c7i.xlarge", "spot", 0.06, "spot price history")
    assert cost_line([Lot(4, spot, market="spot-or-on-demand")]).endswith("; where no spot is to be had, on-demand at its price")
    assert "on-demand" not in cost_line([Lot(4, spot, market="spot")])


def test_a_price_that_is_not_known_is_not_made_up() -> None:
    line = cost_line([Lot(4, PRICE), Lot(2, None, "x9z.large", "spot")])
    assert "2 × x9z.large spot" in line
    assert "not known" in line
    assert "$" not in line


def test_nothing_new_costs_nothing_new() -> None:
    assert "nothing more" in cost_line([Lot(0, PRICE)])
    assert own_machines_line(1).startswith("1 machine of yours: nothing is launched")


@pytest.mark.parametrize(
    ("usd", "text"), [(0, "$0.00"), (0.0104, "$0.0104"), (0.7142, "$0.714"), (17.136, "$17.14"), (1204.4, "$1,204")]
)
def test_dollars_as_people_write_them(usd: float, text: str) -> None:
    assert usd_text(usd) == text
