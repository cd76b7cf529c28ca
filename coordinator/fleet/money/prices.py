"""What instances cost: a bundled table with its date, and the answers of AWS's price list and spot price history. Pure.

The rule: a price always says where it is from, so that nobody takes a guess for a bill. It is the instance's alone; what its
disk and its public address cost besides is ``Table.beside``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from coordinator.fleet.records import Price

HOURS_A_MONTH = 730  # as AWS counts
_TABLE = Path(__file__).parents[1] / "ec2" / "prices.json"
_SIZE = re.compile(r"(?:([0-9]{1,3})xlarge|(xlarge|large|medium|small|micro|nano))\Z")
_OF_XLARGE = {"xlarge": 1.0, "large": 1 / 2, "medium": 1 / 4, "small": 1 / 8, "micro": 1 / 16, "nano": 1 / 32}


class Table(NamedTuple):
    """Prices of the xlarge size of families, by region; of disks (gp3, a GiB and month) by region, and of addresses."""

    date: str
    regions: Mapping[str, Mapping[str, float]]
    disks: Mapping[str, float]
    address_usd_per_hour: float

    def price(self, kind: str, region: str) -> Price | None:
        """What a type costs on demand; None for what the table does not have."""
        family, _, size = kind.partition(".")
        per_xlarge = self.regions.get(region, {}).get(family)
        match = _SIZE.match(size)
        if per_xlarge is None or match is None:
            return None
        of_xlarge = float(match[1]) if match[1] else _OF_XLARGE[match[2]]
        return Price(kind, "on-demand", round(per_xlarge * of_xlarge, 5), self.source)

    @property
    def source(self) -> str:
        """Where these prices are from, for people."""
        return f"bundled table, approximate, written down by hand in {self.date}"

    def beside(self, disk_gib: float, region: str) -> float:
        """What a machine's disk and public IPv4 address cost an hour; in a region that is not in the table, as in its dearest."""
        usd_per_gib_month = self.disks.get(region, max(self.disks.values()))
        return disk_gib * usd_per_gib_month / HOURS_A_MONTH + self.address_usd_per_hour


@functools.cache
def bundled() -> Table:
    """The table that comes with tilefleet."""
    document = json.loads(_TABLE.read_text(encoding="utf-8"))
    return Table(document["date"], document["regions"], document["gp3_usd_per_gib_month"], document["public_ipv4_usd_per_hour"])


def listed(kind: str, products: Iterable[str]) -> Price | None:
    """A type's price from the answer of GetProducts (each product is a JSON text); None when there is none in it.

    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
    """
    for text in products:
        product = json.loads(text)
        for usd in _hourly(product):
            date = str(product.get("publicationDate", ""))[:10]
            return Price(kind, "on-demand", usd, f"AWS price list{f', {date}' if date else ''}")
    return None


def _hourly(product: Any) -> Iterable[float]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            usd = float(dimension.get("pricePerUnit", {}).get("USD", 0))
            if dimension.get("unit") == "Hrs" and usd > 0:  # reserved capacity stands there with 0
                yield usd


def filters(kind: str, region: str) -> list[dict[str, str]]:
    """GetProducts' Filters for one type, on demand, with Linux and nothing else installed."""
    wanted = {
        "instanceType": kind, "regionCode": region, "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA",
        "capacitystatus": "Used", "marketoption": "OnDemand",
    }  # fmt: skip
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]


def spot(kinds: Iterable[str], usd_by_pool: Mapping[tuple[str, str], float]) -> Price | None:
    """The cheapest pool (type, zone) of these types: it is tried first. None where nothing is known."""
    known = [(usd, kind) for (kind, _), usd in usd_by_pool.items() if kind in kinds]
    if not known:
        return None
    usd, kind = min(known)
    return Price(kind, "spot", usd, "spot price history")


def most_of_spot(on_demand: Price) -> Price:
    """Spot never costs more than on demand."""
    return Price(on_demand.kind, "spot", on_demand.usd_per_hour, f"at most, as on demand: {on_demand.source}")
