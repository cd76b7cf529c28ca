"""In which order pools are tried, and what is said when none has anything."""

from __future__ import annotations

from itertools import product

from coordinator.fleet.ec2 import pools, tags
from coordinator.fleet.ec2.pools import Subnet

A, B, C = (Subnet(f"subnet-{zone}", f"us-east-1{zone}") for zone in "abc")
KINDS = ("c7i.xlarge", "c6i.xlarge")
EVERYWHERE = list(product(KINDS, [subnet.zone for subnet in (A, B, C)]))


def _tried(market: str, node: str, offered: list[tuple[str, str]] = EVERYWHERE, **usd: float) -> list[str]:
    prices = {(kind, f"us-east-1{zone}"): price for name, price in usd.items() for kind, zone in [_named(name)]}
    ordered = pools.ordered(market, KINDS, (A, B, C), pools.number_of(node), offered, prices)
    return [f"{pool.kind[:3]}{pool.subnet.zone[-1]} {pool.market}" for pool in ordered]


def _named(name: str) -> tuple[str, str]:
    return f"{name[:3]}.xlarge", name[3]


def test_on_demand_the_preferred_type_is_tried_in_every_zone_first() -> None:
    assert [one.split()[0] for one in _tried("on-demand", "n3")] == ["c7ia", "c7ib", "c7ic", "c6ia", "c6ib", "c6ic"]


def test_nodes_begin_in_different_zones() -> None:
    assert [_tried("on-demand", node)[0].split()[0] for node in ("n1", "n2", "n3", "n4")] == ["c7ib", "c7ic", "c7ia", "c7ib"]


def test_zones_without_a_type_are_left_out() -> None:
    assert _tried("on-demand", "n3", [("c6i.xlarge", "us-east-1b")]) == ["c6ib on-demand"]


def test_spot_goes_by_price_and_what_is_not_known_comes_last() -> None:
    tried = _tried("spot", "n3", c7ia=0.08, c7ib=0.05, c7ic=0.09, c6ia=0.06, c6ib=0.07)
    assert [one.split()[0] for one in tried] == ["c7ib", "c6ia", "c6ib", "c7ia", "c7ic", "c6ic"]


def test_spot_or_on_demand_falls_back_only_after_all_spot_pools() -> None:
    markets = [one.split()[1] for one in _tried("spot-or-on-demand", "n1")]
    assert markets == ["spot"] * 6 + ["on-demand"] * 6


def test_refusals_are_told_in_words_pools_of_a_kind_together() -> None:
    refused = [
        (pools.Pool("c7i.xlarge", A, "spot"), pools.refusal("InsufficientInstanceCapacity")),
        (pools.Pool("c7i.xlarge", B, "spot"), pools.refusal("InsufficientInstanceCapacity")),
        (pools.Pool("c7i.xlarge", A, "on-demand"), pools.refusal("VcpuLimitExceeded")),
    ]
    assert pools.in_words(refused) == (
        "c7i.xlarge spot in us-east-1a, c7i.xlarge spot in us-east-1b: no capacity just now; "
        "c7i.xlarge on-demand in us-east-1a: the account's quota is used up (VcpuLimitExceeded)"
    )


def test_an_error_that_every_pool_would_give_is_no_refusal_of_one() -> None:
    assert pools.refusal("UnauthorizedOperation") == pools.refusal("") == pools.refusal("InvalidParameterValue") == ""
    assert pools.is_of_market("VcpuLimitExceeded")
    assert not pools.is_of_market("InsufficientInstanceCapacity")


def test_a_node_has_one_token_in_its_fleet_and_none_of_another() -> None:
    tokens = {tags.client_token(uid, node) for uid in ("1", "2") for node in ("n1", "n2", "n11")}
    assert len(tokens) == 6
    assert {len(token) for token in tokens} == {64}
    assert tags.client_token("1", "n1") == tags.client_token("1", "n1")
