"""What a fleet's machines have cost. Pure; an estimate by list price and running time, never a bill."""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.fleet.records import FleetRecord, NodeRecord


def node_usd(record: NodeRecord, now: float) -> float:
    """What one node's machine has cost: from its launch, or last start, to its end, its stop, or now; and its earlier runs."""
    if not record.launched_at:
        return record.spent_usd
    end = record.ended_at or record.stopped_at or now
    return record.spent_usd + record.usd_per_hour * max(0.0, end - record.launched_at) / 3600


def spent_usd(fleet: FleetRecord | None, records: Iterable[NodeRecord], now: float) -> float:
    """What the fleet has cost so far."""
    return (fleet.spent_usd if fleet is not None else 0.0) + sum(node_usd(record, now) for record in records)


def rate_usd_per_hour(records: Iterable[NodeRecord]) -> float:
    """What it costs an hour, as it stands."""
    return sum(record.usd_per_hour for record in records if record.launched_at and not record.ended_at and not record.stopped_at)
