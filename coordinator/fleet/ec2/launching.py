"""Launching instances: one RunInstances for each node, tried in one pool after the other.

Why not CreateFleet: a retried CreateFleet answers with what the first one came to, and an instant fleet that found no capacity
is an answer too: its token is spent. RunInstances that fails makes nothing and spends nothing, and one token for a node *over
all pools* means that EC2 itself makes at most one instance of it, whichever answer was lost. The price is that we choose the
spot pool (by price) and not EC2; nodes begin in different zones instead.

Before that, instances are looked for by the node's tag, which also finds those that were made when tokens are forgotten.
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from coordinator.fleet.ec2 import instances, tags
from coordinator.fleet.ec2.account import CONSISTENT_S, Account
from coordinator.fleet.ec2.pools import Pool, Subnet, in_words, is_of_market, market_of, number_of, ordered, refusal
from coordinator.fleet.ec2.template import Template
from coordinator.fleet.ports import Refused, Wanted
from tilefleet.aws import code_of
from tilefleet.backoff import Backoff
from tilefleet.errors import BadConfig, DoesNotFit, NotAllowed, TilefleetError, Unreachable

AT_ONCE = 5  # RunInstances: 5 at once, then 2 a second, for an account that never asked for more
TRIES_FOR_S = 90.0  # for one node, while the answer is one that may pass
LOOKED_FOR_S = 30.0  # for an instance that EC2 says there is
_MARKED = ("instance", "volume")
_BURSTABLE = {"t2", "t3", "t3a", "t4g"}  # and not trn1: EC2 refuses a setting of credits for others


class Recipe(NamedTuple):
    """What a launch needs to know."""

    fleet: str
    uid: str
    store_url: str
    template: Template
    profiles: dict[str, str]
    """Name of the instance profile by role."""
    market: str
    kinds: tuple[str, ...]
    subnets: tuple[Subnet, ...]
    max_instances: int
    """Hard cap on all that run in the account and region; 0: none."""


class Launcher:
    """Launches nodes; remembers which, as EC2 may not show them at once."""

    def __init__(self, account: Account, recipe: Recipe) -> None:
        self._account = account
        self._recipe = recipe
        self._made: dict[str, tuple[float, Any]] = {}
        self._gate = asyncio.Semaphore(1 if recipe.max_instances else AT_ONCE)  # a cap is counted before each launch

    def use(self, recipe: Recipe) -> None:
        """From now on."""
        self._recipe = recipe

    async def launch(self, wanted: Sequence[Wanted]) -> tuple[list[Any], list[Refused]]:
        """EC2's descriptions, and what was refused. Raises the first refusal's error when nothing could be launched."""
        there = await self._present([one.node for one in wanted])
        offered, spot_usd = await self._offers(), await self._spot_prices()

        async def launch(one: Wanted) -> Any:
            recipe = self._recipe
            market = market_of(one.role, recipe.market)
            pools = ordered(market, recipe.kinds, recipe.subnets, number_of(one.node), offered, spot_usd)
            try:
                async with self._gate:
                    made = await self._one(one, pools)
            except TilefleetError as error:
                return error
            self._made[one.node] = (asyncio.get_running_loop().time(), made)
            return made

        new = [one for one in wanted if one.node not in there]
        answers = dict(zip([one.node for one in new], await asyncio.gather(*map(launch, new)), strict=True))
        errors = {node: answer for node, answer in answers.items() if isinstance(answer, TilefleetError)}
        if errors and len(errors) == len(wanted):
            raise next(iter(errors.values()))
        found = [there.get(one.node) or answers[one.node] for one in wanted if one.node not in errors]
        return found, [Refused(node, str(error)) for node, error in errors.items()]

    async def _present(self, nodes: Sequence[str]) -> dict[str, Any]:
        """Instances of these nodes that were launched before. A node whose instance is gone is none of them."""
        own = (f"tag:{tags.FLEET}", [self._recipe.fleet])
        found: dict[str, Any] = {}
        for start in range(0, len(nodes), 200):  # values of a filter
            some = await instances.described(self._account, own, (f"tag:{tags.NODE}", list(nodes[start : start + 200])))
            found |= {tags.read(one["Tags"])[tags.NODE]: one for one in some}
        found = {node: one for node, one in self._recent().items() if node in nodes} | found
        return {node: one for node, one in found.items() if one["State"]["Name"] not in instances.GONE}

    def _recent(self) -> dict[str, Any]:
        """What was launched so lately that EC2 may not show it yet."""
        since = asyncio.get_running_loop().time() - CONSISTENT_S
        self._made = {node: (at, one) for node, (at, one) in self._made.items() if at > since}
        return {node: one for node, (_, one) in self._made.items()}

    async def _offers(self) -> set[tuple[str, str]]:
        """(type, zone) that exist: not every zone has every type."""
        recipe = self._recipe
        offers = await self._account.list(
            "ec2",
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone",
            Filters=tags.wanted(("instance-type", recipe.kinds)),
        )
        found = {(one["InstanceType"], one["Location"]) for one in offers}
        zones = sorted({subnet.zone for subnet in recipe.subnets})
        if not any(zone in zones for _, zone in found):
            raise BadConfig(
                f"none of {', '.join(recipe.kinds)} is offered in {', '.join(zones)}; mend ec2.instance_types or ec2.zones"
            )
        return found

    async def _spot_prices(self) -> dict[tuple[str, str], float]:
        """What pools cost now; nothing where it cannot be had: the order is then that of preference."""
        if not self._recipe.market.startswith("spot"):
            return {}
        try:
            return await spot_prices(self._account, self._recipe.kinds)
        except TilefleetError:
            return {}

    async def _one(self, wanted: Wanted, pools: Sequence[Pool]) -> Any:
        refusals: list[tuple[Pool, str]] = []
        spent: set[str] = set()
        for pool in pools:
            if pool.market in spent:
                continue
            await self._check_cap(wanted.node)
            try:
                return await self._in_pool(wanted, pool)
            except TilefleetError as error:
                code = code_of(error)
                if not refusal(code):
                    raise
                refusals.append((pool, refusal(code)))
                if is_of_market(code):
                    spent.add(pool.market)
        raise DoesNotFit(f"{wanted.node} could not be launched: {in_words(refusals) or 'no pool is offered in these zones'}")

    async def _check_cap(self, node: str) -> None:
        """Raises DoesNotFit when one more would be over the cap."""
        recent = [one["InstanceId"] for one in self._recent().values()]
        await instances.check_cap(self._account, self._recipe.max_instances, node, just_made=recent)

    async def _in_pool(self, wanted: Wanted, pool: Pool) -> Any:
        """One instance from this pool. Raises the error by which EC2 refuses it for good."""
        loop, backoff = asyncio.get_running_loop(), Backoff(0.5, 8.0)
        end = loop.time() + TRIES_FOR_S
        while True:
            try:
                answer = await self._account.call("ec2", "run_instances", **self._request(wanted, pool))
            except TilefleetError as error:
                if code_of(error) == "IdempotentParameterMismatch":
                    return await self._looked_for(wanted)
                if code_of(error) == "IdempotentInstanceTerminated":
                    raise DoesNotFit(f"{wanted.node} was launched before and is gone; it needs another name") from error
                if not _may_pass(error) or loop.time() > end:
                    raise
                await backoff.sleep()
            else:
                return answer["Instances"][0]

    async def _looked_for(self, wanted: Wanted) -> Any:
        """The instance that an earlier try made in another pool."""
        backoff = Backoff(0.5, 4.0)
        try:
            async with asyncio.timeout(LOOKED_FOR_S):
                while wanted.node not in (there := await self._present([wanted.node])):
                    await backoff.sleep()
        except TimeoutError as error:
            raise Unreachable(f"{wanted.node} was launched before, as EC2 says, but it does not show it; try again") from error
        return there[wanted.node]

    def _request(self, wanted: Wanted, pool: Pool) -> dict[str, Any]:
        recipe = self._recipe
        mark = tags.of_node(recipe.fleet, wanted.node, wanted.role, recipe.store_url)
        spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        is_burstable = pool.kind.partition(".")[0] in _BURSTABLE
        return {
            "MinCount": 1,
            "MaxCount": 1,
            "ClientToken": tags.client_token(recipe.uid, wanted.node),
            "LaunchTemplate": {"LaunchTemplateId": recipe.template.id, "Version": recipe.template.version},
            "InstanceType": pool.kind,
            "SubnetId": pool.subnet.id,
            "IamInstanceProfile": {"Name": recipe.profiles[wanted.role]},
            "TagSpecifications": [one for kind in _MARKED for one in tags.specified(kind, mark)],
            # unlimited credits, the default, would cost more than the price that was shown
            **({"CreditSpecification": {"CpuCredits": "standard"}} if is_burstable else {}),
            **({"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": spot}} if pool.market == "spot" else {}),
        }


def _may_pass(error: TilefleetError) -> bool:
    """No answer or too many requests; or what was made just now and is not known to EC2 yet: a profile, group, template."""
    code = code_of(error)
    if code == "InvalidParameterValue":
        return "instance profile" in str(error).lower() or "iaminstanceprofile" in str(error).lower()
    if refusal(code) or isinstance(error, NotAllowed):
        return False
    return error.is_retryable or code in {"InvalidGroup.NotFound", "InvalidLaunchTemplateId.NotFound",
                                          "InvalidLaunchTemplateId.VersionNotFound"}  # fmt: skip


async def spot_prices(account: Account, kinds: Sequence[str]) -> dict[tuple[str, str], float]:
    """What (type, zone) cost now as spot."""
    import datetime

    now = datetime.datetime.now(datetime.UTC)
    history = await account.list(
        "ec2",
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=list(kinds),
        ProductDescriptions=["Linux/UNIX"],
        StartTime=now,
        EndTime=now,
    )
    newest: dict[tuple[str, str], tuple[Any, float]] = {}
    for one in history:
        pool = (one["InstanceType"], one["AvailabilityZone"])
        if pool not in newest or one["Timestamp"] > newest[pool][0]:
            newest[pool] = (one["Timestamp"], float(one["SpotPrice"]))
    return {pool: usd for pool, (_, usd) in newest.items()}
