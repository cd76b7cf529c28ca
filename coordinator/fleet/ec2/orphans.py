"""What fleets left behind in an account and region, by their tags, and whether each fleet is still alive."""

from __future__ import annotations

import msgspec

from coordinator.fleet.records import Belonging
from tilefleet.config import Config


class Traces(msgspec.Struct, frozen=True):
    """Everything in the account and region that carries one fleet's tag."""

    fleet: str
    belongings: tuple[Belonging, ...]
    """In the order in which it must be removed."""
    created_at: float = 0.0
    """When the oldest of it was made; 0 where nothing says."""
    usd_per_hour: float = 0.0
    """What its running instances cost."""
    store_url: str = ""
    """Where the fleet's records lie, by its tags."""
    heard_at: float = 0.0
    """When its coordinator last wrote to its store; 0: never, or the store cannot be read."""
    is_alive: bool = False
    """Whether that was a short time ago, or the fleet was just made."""


async def traces(config: Config) -> list[Traces]:
    """All fleets with something in the configured account and region, the configured one included."""
    raise NotImplementedError
