"""In which pools of EC2's machines a node is looked for, in which order, and what EC2 says where there is none. Pure.

A pool is an instance type in a zone, on-demand or spot. On-demand, the types come in the order of preference; spot, by what
they cost now. Either way the zones begin elsewhere for each node, so that one sold-out or reclaimed pool is not the fleet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from coordinator.fleet.records import Role

Market = Literal["on-demand", "spot"]


class Subnet(NamedTuple):
    """Part of a VPC in one zone."""

    id: str
    zone: str


class Pool(NamedTuple):
    """Where an instance may come from."""

    kind: str
    subnet: Subnet
    market: Market

    def __str__(self) -> str:
        return f"{self.kind} {self.market} in {self.subnet.zone}"


def markets(wanted: str) -> tuple[Market, ...]:
    """``ec2.market`` as what is tried, one after the other."""
    every: dict[str, tuple[Market, ...]] = {"spot": ("spot",), "spot-or-on-demand": ("spot", "on-demand")}
    return every.get(wanted, ("on-demand",))


def market_of(role: Role, wanted: str) -> str:
    """``ec2.market`` is about workers, of which there are others; a coordinator that is taken away stops everything."""
    return "on-demand" if role == "coordinator" else wanted


def ordered(
    wanted: str,
    kinds: Sequence[str],
    subnets: Sequence[Subnet],
    number: int,
    offered: Iterable[tuple[str, str]],
    spot_usd: Mapping[tuple[str, str], float],
) -> list[Pool]:
    """All pools for a node. ``offered``: (type, zone) that exist; ``spot_usd``: price of (type, zone) where it is known."""
    there = set(offered)
    turned = [*subnets[number % len(subnets) :], *subnets[: number % len(subnets)]]
    found: list[Pool] = []
    for market in markets(wanted):
        pools = [Pool(kind, subnet, market) for kind in kinds for subnet in turned if (kind, subnet.zone) in there]
        if market == "spot":
            dearest = max(spot_usd.values(), default=0.0)
            pools.sort(key=lambda pool: spot_usd.get((pool.kind, pool.subnet.zone), 2 * dearest))  # stable: turned stays
        found += pools
    return found


def number_of(node: str) -> int:
    """``n12`` → 12; 0 for a name without a number."""
    digits = "".join(character for character in node if character.isdigit())
    return int(digits) if digits else 0


_NO_CAPACITY = {
    "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "UnfulfillableCapacity",
    "InsufficientReservedInstanceCapacity",
}  # fmt: skip
_QUOTA = {
    "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "SpotInstanceCountLimitExceeded",
    "VolumeLimitExceeded", "MaxIOPSLimitExceeded",
}  # fmt: skip
_OTHERS = {
    "SpotMaxPriceTooLow": "its spot price is above the on-demand price",
    "InsufficientFreeAddressesInSubnet": "its subnet has no free addresses",
    "Unsupported": "it is not offered there",
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": "these credentials may not ask for spot instances",
    "InvalidSubnetID.NotFound": "its subnet is gone",
}


def refusal(code: str) -> str:
    """Why a pool gave no instance, in words; empty for an error that other pools would give too."""
    if code in _NO_CAPACITY:
        return "no capacity just now"
    if code in _QUOTA:
        return f"the account's quota is used up ({code})"
    return _OTHERS.get(code, "")


def is_of_market(code: str) -> bool:
    """Whether a refusal holds for every pool of its market: quotas are per account and region."""
    return code in _QUOTA or code.startswith("AuthFailure")


def in_words(refusals: Sequence[tuple[Pool, str]]) -> str:
    """What was tried in vain: pools that said the same together."""
    by_reason: dict[str, list[str]] = {}
    for pool, reason in refusals:
        by_reason.setdefault(reason, []).append(str(pool))
    return "; ".join(f"{', '.join(pools)}: {reason}" for reason, pools in by_reason.items())
