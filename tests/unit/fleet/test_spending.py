"""The cost line."""

from __future__ import annotations

import pytest

from coordinator.fleet.records import Price
from coordinator.fleet.spending import Lot, cost_line, own_machines_line, usd_text

PRICE = Price("c7i.xlarge", "on-demand", 0.1785, "price list of 2026-11-01")
SMALL = Price("t3.small", "on-demand", 0.0208, "price list of 2026-11-01")


def test_the_cost_line_says_what_an_hour_and_a_day_cost_and_how_it_is_known() -> None:
    assert cost_line([Lot(4, PRICE)]) == (
        "4 × c7i.xlarge on-demand: $0.714 an hour, $17.14 a day, plus S3 and SQS requests (price list of 2026-11-01)"
    )


def test_machines_of_several_kinds_are_added_up() -> None:
    line = cost_line([Lot(4, PRICE), Lot(1, SMALL), Lot(0, SMALL)])
    assert line.startswith("4 × c7i.xlarge on-demand and 1 × t3.small on-demand: $0.735 an hour, $17.64 a day")
    assert line.count("price list of 2026-11-01") == 1


def test_a_lifetime_bounds_it() -> None:
    assert cost_line([Lot(4, PRICE)], lifetime_s=8 * 3600).endswith("; at most $5.71 until they power themselves off after 8 h")


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
