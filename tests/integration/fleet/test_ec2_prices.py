"""Prices where AWS answers (recorded in the shape of its documentation: moto cannot) and where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.fleet.records import Price
from tests.conftest import Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import Answer, ec2_refusal, json_answer, proxy_to, xml
from tests.unit.fleet.test_prices import PRODUCT

LIST = "pricing:GetProducts"
HISTORY = "ec2:DescribeSpotPriceHistory"


def _history(*prices: tuple[str, str, str, str]) -> str:
    items = "".join(
        f"<item><instanceType>{kind}</instanceType><productDescription>Linux/UNIX</productDescription><spotPrice>{usd}</spotPrice>"
        f"<timestamp>{at}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
        for kind, zone, usd, at in prices
    )
    return (
        f"<DescribeSpotPriceHistoryResponse><spotPriceHistorySet>{items}</spotPriceHistorySet></DescribeSpotPriceHistoryResponse>"
    )


async def test_the_price_list_goes_before_the_table_and_is_asked_once(moto_server: Server, tmp_path: Path) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy:
        asked: list[str] = []
        dearer = json.dumps(PRODUCT).replace("0.1785000000", "0.2000000000")

        def answer(body: str) -> Answer:
            asked.append(body)
            return json_answer(json.dumps({"FormatVersion": "aws_v1", "PriceList": [dearer]}))

        proxy.answers[LIST] = answer
        async with aws.provider_of(aws.config(proxy.endpoint_url), tmp_path) as provider:
            for _ in range(2):
                assert await provider.price() == Price("c7i.xlarge", "on-demand", 0.2, "AWS price list, 2026-11-20")
        assert len(asked) == 1
        wanted = {each["Field"]: each["Value"] for each in json.loads(asked[0])["Filters"]}
        assert (wanted["instanceType"], wanted["regionCode"], wanted["operatingSystem"]) == ("c7i.xlarge", "us-east-1", "Linux")


async def test_without_the_price_list_the_table_says_so(moto_server: Server, tmp_path: Path) -> None:
    async with aws.provider_of(aws.config(moto_server.endpoint_url), tmp_path) as provider:  # moto: 500
        price = await provider.price("m5.large")
        assert price is not None
        assert price.usd_per_hour == pytest.approx(0.096)
        assert "bundled table" in price.source
        assert await provider.price("x9z.large") is None


async def test_the_newest_price_of_the_cheapest_spot_pool(moto_server: Server, tmp_path: Path) -> None:
    text = _history(
        ("c7i.xlarge", "us-east-1a", "0.0900", "2026-11-22T20:00:00.000Z"),
        ("c7i.xlarge", "us-east-1a", "0.0100", "2026-11-22T10:00:00.000Z"),
        ("c6i.xlarge", "us-east-1b", "0.0712", "2026-11-22T19:00:00.000Z"),
    )
    with proxy_to(moto_server.endpoint_url) as proxy:
        proxy.answers[HISTORY] = lambda _: xml(200, text)
        async with aws.provider_of(aws.config(proxy.endpoint_url, market="spot"), tmp_path) as provider:
            assert await provider.price() == Price("c6i.xlarge", "spot", 0.0712, "spot price history")


async def test_where_no_spot_price_can_be_had_the_most_that_it_may_be(moto_server: Server, tmp_path: Path) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy:
        proxy.answers[HISTORY] = lambda _: ec2_refusal("UnauthorizedOperation", 403)
        async with aws.provider_of(aws.config(proxy.endpoint_url, market="spot"), tmp_path) as provider:
            price = await provider.price()
            assert price is not None
            assert price.market == "spot"
            assert price.usd_per_hour == pytest.approx(0.1785)
            assert price.source.startswith("at most, as on demand: bundled table")
