"""What ``fleet up`` was told last stands in the fleet's record, and counts for more than the configuration. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from coordinator.fleet.records import FleetRecord
from tilefleet.config import Config


def as_chosen(config: Config, record: FleetRecord) -> Config:
    """With the number of nodes and the place of the coordinator that ``fleet up`` was told last."""
    return with_choices(config, record.count, record.coordinator)


def with_choices(config: Config, count: int, coordinator: str) -> Config:
    """Another number of nodes (0: as it is), another place for the coordinator (empty: as it is)."""
    nodes = config.nodes
    return replace(config, nodes=replace(nodes, count=count or nodes.count, coordinator=coordinator or nodes.coordinator))
