"""Prices as AWS says them now, else as the bundled table has them. Asked once for each type by a process."""

from __future__ import annotations

from coordinator.fleet.ec2.account import Account
from coordinator.fleet.ec2.launching import spot_prices
from coordinator.fleet.money import prices
from coordinator.fleet.records import Price
from tilefleet.errors import TilefleetError

DEADLINE_S = 8.0  # a cost line must not hold a command up


class Quotes:
    """Prices in one account's region."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._listed: dict[str, Price | None] = {}

    async def on_demand(self, kind: str) -> Price | None:
        """None where neither the price list nor the table knows."""
        if kind not in self._listed:
            self._listed[kind] = await self._ask(kind) or prices.bundled().price(kind, self._account.region)
        return self._listed[kind]

    async def spot(self, kinds: tuple[str, ...]) -> Price | None:
        """The cheapest pool of these types; where that is not known, the most that it may be."""
        try:
            found = prices.spot(kinds, await spot_prices(self._account, kinds))
        except TilefleetError:
            found = None
        if found is None and (on_demand := await self.on_demand(kinds[0])) is not None:
            return prices.most_of_spot(on_demand)
        return found

    async def _ask(self, kind: str) -> Price | None:
        try:
            answer = await self._account.call(
                "pricing",
                "get_products",
                ServiceCode="AmazonEC2",
                Filters=prices.filters(kind, self._account.region),
                MaxResults=10,
                deadline_s=DEADLINE_S,
            )
            return prices.listed(kind, answer["PriceList"])
        except (TilefleetError, ValueError):  # not allowed, not reachable, not as documented: the table then
            return None
