"""Prices from the bundled table and from AWS's answers, each with where it is from."""

from __future__ import annotations

import json

import pytest

from coordinator.fleet.money import prices
from coordinator.fleet.records import Price


@pytest.mark.parametrize(
    ("kind", "region", "usd"),
    [
        ("c7i.xlarge", "us-east-1", 0.1785),
        ("c7i.large", "us-west-2", 0.08925),
        ("m5.4xlarge", "us-east-1", 0.768),
        ("t3.micro", "us-east-1", 0.0104),
        ("t4g.nano", "us-west-2", 0.0042),
        ("r6i.8xlarge", "eu-central-1", 2.432),
        ("c7g.2xlarge", "us-east-1", 0.29),
    ],
)
def test_sizes_of_a_family_cost_in_proportion(kind: str, region: str, usd: float) -> None:
    price = prices.bundled().price(kind, region)
    assert price is not None
    assert price.usd_per_hour == pytest.approx(usd)
    assert price.source == "bundled table, approximate, written down by hand in mid-2025"


@pytest.mark.parametrize(("kind", "region"), [("c7i.metal", "us-east-1"), ("x9z.large", "us-east-1"), ("c7i.large", "ap-east-1"),
                                               ("", "us-east-1"), ("c7i", "us-east-1")])  # fmt: skip
def test_what_the_table_does_not_have_has_no_price(kind: str, region: str) -> None:
    assert prices.bundled().price(kind, region) is None


def test_the_table_covers_the_families_that_it_says() -> None:
    families = {f"{letter}{number}" for letter in "cmr" for number in (5, "6i", "7i", "6g", "7g", "6a", "7a")} | {"t3", "t4g"}
    for region in ("us-east-1", "us-west-2", "eu-central-1"):
        assert families <= prices.bundled().regions[region].keys()
        assert all(0.05 < usd < 0.6 for usd in prices.bundled().regions[region].values())


def test_a_disk_and_an_address_cost_besides_and_no_less_where_it_is_not_known() -> None:
    table = prices.bundled()
    assert table.beside(73, "us-east-1") == pytest.approx(0.008 + 0.005)
    assert table.beside(0, "us-east-1") == pytest.approx(0.005)
    assert table.beside(16, "ap-east-1") == max(table.beside(16, region) for region in table.regions)


# Recorded in the shape that the price list documents; shortened.
PRODUCT = {
    "product": {"productFamily": "Compute Instance", "attributes": {"instanceType": "c7i.xlarge", "regionCode": "us-east-1"}},
    "serviceCode": "AmazonEC2",
    "terms": {
        "OnDemand": {
            "ABC.JRTCKXETXF": {
                "priceDimensions": {
                    "ABC.JRTCKXETXF.6YS6EN2CT7": {
                        "unit": "Hrs",
                        "description": "$0.1785 per On Demand Linux c7i.xlarge Instance Hour",
                        "pricePerUnit": {"USD": "0.1785000000"},
                    }
                }
            }
        }
    },
    "version": "20261120",
    "publicationDate": "2026-11-20T18:11:05Z",
}


def test_the_price_list_says_its_date() -> None:
    price = prices.listed("c7i.xlarge", [json.dumps(PRODUCT)])
    assert price == Price("c7i.xlarge", "on-demand", 0.1785, "AWS price list, 2026-11-20")


def test_reserved_capacity_at_no_charge_is_no_price() -> None:
    free = json.loads(json.dumps(PRODUCT).replace("0.1785000000", "0.0000000000"))
    assert prices.listed("c7i.xlarge", [json.dumps(free)]) is None
    found = prices.listed("c7i.xlarge", [json.dumps(free), json.dumps(PRODUCT)])
    assert found is not None
    assert found.usd_per_hour == 0.1785
    assert prices.listed("c7i.xlarge", []) is None


def test_the_cheapest_spot_pool_is_the_price() -> None:
    pools = {("c7i.xlarge", "a"): 0.09, ("c6i.xlarge", "b"): 0.07, ("m5.large", "a"): 0.01}
    assert prices.spot(("c7i.xlarge", "c6i.xlarge"), pools) == Price("c6i.xlarge", "spot", 0.07, "spot price history")
    assert prices.spot(("r5.large",), pools) is None
