"""What a fleet of machines that exist leaves beside them: its queues in SQS, and its keys in the store.

The rule: a queue goes when it carries the fleet's tag, an object when its key is one of ``layout``; what lies beside stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.fleet.ec2.account import Account
from coordinator.fleet.ec2.belongings import Finder, in_order
from coordinator.fleet.ec2.removal import Remover
from coordinator.fleet.ports import Tell
from coordinator.fleet.records import Belonging
from tilefleet import layout
from tilefleet.config import Config
from tilefleet.errors import NotFound
from tilefleet.quantities import format_bytes
from tilefleet.store import Store


class Leavings:
    """Finds and removes them."""

    def __init__(self, config: Config, store: Store) -> None:
        self._fleet = config.fleet.name
        self._store = store
        self._account = Account(config)

    async def belongings(self) -> list[Belonging]:
        """Queues, then data."""
        queues = await Finder(self._account, self._fleet, has_iam=False).queues()
        return in_order([*queues, *await self._data()])

    async def remove(self, belongings: Sequence[Belonging], tell: Tell) -> None:
        """Remove exactly these, and wait until they are gone."""
        await Remover(self._account, tell).remove([one for one in belongings if one.kind == "queue"])
        for one in belongings:
            if one.kind == "data":
                await self._store.delete([entry.key async for entry in self._store.entries() if layout.is_own(entry.key)])
                tell(f"removed the data in {one.id} ({one.detail})")

    async def close(self) -> None:
        """Let go of connections."""
        await self._account.close()

    async def _data(self) -> list[Belonging]:
        n_objects = size_bytes = 0
        try:
            async for entry in self._store.entries():
                if layout.is_own(entry.key):
                    n_objects, size_bytes = n_objects + 1, size_bytes + entry.size_bytes
        except NotFound:
            return []
        if not n_objects:
            return []
        detail = f"{n_objects:,} object{'s' if n_objects > 1 else ''}, {format_bytes(size_bytes)}"
        return [Belonging("data", self._store.url, self._fleet, detail, size_bytes)]
