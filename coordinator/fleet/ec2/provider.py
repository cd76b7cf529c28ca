"""The provider of EC2 instances: one face over the modules of this package, which each look after one kind of thing."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.fleet.files import FleetFiles
from coordinator.fleet.ports import Refused, Tell, Wanted
from coordinator.fleet.records import Belonging, Machine, Price
from tilefleet.config import Config
from tilefleet.store import Store


class Ec2Provider:
    """Keeps the contract of ``coordinator.fleet.ports.Provider``."""

    can_launch = True

    def __init__(self, config: Config, files: FleetFiles, store: Store) -> None:
        self._config = config
        self._files = files
        self._store = store

    async def prepare(self, tell: Tell) -> None:
        """Make what instances need beside themselves, where it is missing."""
        raise NotImplementedError

    async def machines(self) -> list[Machine]:
        """Every instance of this fleet."""
        raise NotImplementedError

    async def launch(self, wanted: Sequence[Wanted]) -> tuple[list[Machine], list[Refused]]:
        """Launch instances; idempotent by node name."""
        raise NotImplementedError

    async def terminate(self, machines: Sequence[Machine]) -> None:
        """End instances for good."""
        raise NotImplementedError

    async def stop(self, machines: Sequence[Machine]) -> None:
        """Stop instances; they keep their disks."""
        raise NotImplementedError

    async def start(self, machines: Sequence[Machine]) -> None:
        """Start them again; their addresses change."""
        raise NotImplementedError

    async def host_keys(self, machine: Machine) -> tuple[str, ...]:
        """Public host keys that the instance published itself; () as long as it did not."""
        raise NotImplementedError

    async def price(self, machine_kind: str = "", market: str = "") -> Price | None:
        """What one more instance costs an hour."""
        raise NotImplementedError

    async def belongings(self) -> list[Belonging]:
        """All that carries this fleet's tag, in the order in which it must be removed."""
        raise NotImplementedError

    async def remove(self, belongings: Sequence[Belonging], tell: Tell) -> None:
        """Remove exactly these, and wait until they are gone."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of connections."""
        raise NotImplementedError
