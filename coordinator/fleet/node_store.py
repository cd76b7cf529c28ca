"""Records of the fleet and its nodes in the store.

The rules: a node's number is taken by creating its record, so nobody has it twice; only who holds the fleet's turn writes
(``turn``); what ended a day ago is added to the fleet's record and removed, its number stays used.
"""

from __future__ import annotations

import secrets
import time

from msgspec.structs import replace

from coordinator.fleet.deciding.picture import number_of
from coordinator.fleet.money.costs import node_usd
from coordinator.fleet.records import FleetRecord, NodeRecord
from tilefleet import layout
from tilefleet.backoff import persist
from tilefleet.bounded import for_each
from tilefleet.errors import BadConfig, NotFound
from tilefleet.records import from_json, to_json
from tilefleet.store import Store

READS_AT_ONCE = 32
AWAY_S = 60.0


class NodeStore:
    """Reads and writes what ``records`` describes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def fleet(self) -> FleetRecord | None:
        """The fleet's record; None before its first ``up`` and after its ``down``."""
        try:
            return from_json(bytes(await self._store.get(layout.FLEET)), FleetRecord, self._store.shown(layout.FLEET))
        except NotFound:
            return None

    async def fleet_of(self, name: str) -> FleetRecord | None:
        """The same. Raises BadConfig when the store is another fleet's: each would take the other's nodes and data for its."""
        record = await self.fleet()
        if record is not None and record.name != name:
            raise BadConfig(
                f"{self._store.url} is the store of the fleet {record.name}, so it cannot be that of {name} too; give each its "
                "own store.url, in the same bucket under another prefix for one"
            )
        return record

    async def found(self, name: str, *, by: str = "") -> FleetRecord:
        """The fleet's record, made when there is none."""
        record = FleetRecord(name, secrets.token_hex(8), time.time(), by)
        if await self._store.put_new(layout.FLEET, to_json(record)):
            return record
        return await self.fleet() or record

    async def save_fleet(self, record: FleetRecord) -> None:
        """Replace the fleet's record."""
        await self._store.put(layout.FLEET, to_json(record))

    async def nodes(self) -> list[NodeRecord]:
        """All records, those of nodes that ended lately included."""
        keys = [entry.key async for entry in self._store.entries(layout.NODES)]
        found: list[NodeRecord] = []

        async def read(key: str) -> None:
            try:
                found.append(from_json(bytes(await self._store.get(key)), NodeRecord, self._store.shown(key)))
            except NotFound:
                return

        await for_each(keys, read, concurrency=READS_AT_ONCE, name="node-records")
        return sorted(found, key=lambda record: (len(record.name), record.name))

    async def claim(self, record: NodeRecord) -> bool:
        """Take a name that nobody has had; False when somebody has."""
        return await self._store.put_new(layout.node(record.name), to_json(record))

    async def save(self, record: NodeRecord) -> None:
        """Replace a node's record. A store that is away for a moment is waited for: what was done must not be forgotten."""
        await persist(lambda: self._store.put(layout.node(record.name), to_json(record)), for_s=AWAY_S)

    async def retire(self, ended: list[NodeRecord], now: float) -> None:
        """Remove records of nodes that ended; what they cost, and that their numbers are used, stays in the fleet's record.

        The sum is written first: whoever is cut off in between counts some twice, and never too little."""
        fleet = await self.fleet() if ended else None
        if fleet is None:
            return
        spent_usd = fleet.spent_usd + sum(node_usd(record, now) for record in ended)
        next_node = max([fleet.next_node, *(number_of(record.name)[0] + 1 for record in ended)])
        await self.save_fleet(replace(fleet, spent_usd=spent_usd, next_node=next_node))
        await self._store.delete([layout.node(record.name) for record in ended])
