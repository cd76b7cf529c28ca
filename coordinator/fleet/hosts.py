"""Machines that exist already: those of ``[hosts]``. Nothing is launched and nothing ends; set-ups are undone over SSH.

The rules: a machine keeps its node name as long as its address is named; a name is never given to another address; a machine
that is no longer named is shown as long as its record lives, so that what was installed there can be removed.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path

from coordinator.fleet.connections.addresses import parse_address
from coordinator.fleet.connections.known_hosts import host_keys_of
from coordinator.fleet.deciding.picture import number_of
from coordinator.fleet.leavings import Leavings
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.ports import Refused, Tell, Wanted
from coordinator.fleet.records import Belonging, Machine, NodeRecord, Price, Role
from tilefleet.config import Config
from tilefleet.errors import BadConfig, DoesNotFit, NotFound
from tilefleet.fleet_config import HostsSection

KNOWN_HOSTS = "~/.ssh/known_hosts"


class HostsProvider:
    """Keeps the contract of ``coordinator.fleet.ports.Provider``."""

    can_launch = False

    def __init__(self, config: Config, nodes: NodeStore, leavings: Leavings | None = None) -> None:
        self._config = config
        self._nodes = nodes
        self._leavings = leavings

    async def prepare(self, tell: Tell) -> None:
        """Nothing is made; but every address must be one, and be named once. Raises BadConfig."""
        del tell
        check(self._config.hosts)

    async def machines(self) -> list[Machine]:
        """One for each address that the configuration names, and for each that a live record does."""
        has_coordinator = self._config.nodes.coordinator == "node"
        try:
            records, fleet = await self._nodes.nodes(), await self._nodes.fleet()
        except NotFound:  # the bucket is not there yet
            records, fleet = [], None
        named = named_nodes(self._config.hosts, records, fleet.next_node if fleet else 1, has_coordinator=has_coordinator)
        return [machine_of(node, role, text, self._config.ssh.user) for node, role, text in named]

    async def launch(self, wanted: Sequence[Wanted]) -> tuple[list[Machine], list[Refused]]:
        """There is nothing to launch."""
        return [], [Refused(node, "a fleet of hosts has the machines that hosts.addresses names") for node, _ in wanted]

    async def terminate(self, machines: Sequence[Machine]) -> None:
        """They stay."""

    async def stop(self, machines: Sequence[Machine]) -> None:
        """Raises DoesNotFit: a machine of yours is switched off by yourself."""
        _not_ours(machines)

    async def start(self, machines: Sequence[Machine]) -> None:
        """Raises DoesNotFit."""
        _not_ours(machines)

    async def host_keys(self, machine: Machine) -> tuple[str, ...]:
        """Those in the known_hosts file. Raises NotFound when it has none: they are never taken from the machine itself."""
        path = known_hosts_of(self._config)
        keys = host_keys_of(path, machine.address, machine.port)
        if not keys:
            port = "" if machine.port == 22 else f" -p {machine.port}"
            raise NotFound(
                f"{path} has no host key of {machine.id}; connect once by hand (ssh{port} {machine.address}), compare the key "
                "that it shows with the machine's own, and accept it"
            )
        return keys

    async def price(self, machine_kind: str = "", market: str = "") -> Price | None:
        """They are yours."""
        del machine_kind, market
        return None

    async def belongings(self) -> list[Belonging]:
        """The queues and what lies in the store; what was installed is undone over SSH."""
        return await self._leavings.belongings() if self._leavings is not None else []

    async def remove(self, belongings: Sequence[Belonging], tell: Tell) -> None:
        """Remove exactly these queues and data."""
        if self._leavings is not None:
            await self._leavings.remove(belongings, tell)

    async def close(self) -> None:
        """Let go of connections to AWS."""
        if self._leavings is not None:
            await self._leavings.close()


def known_hosts_of(config: Config) -> Path:
    """The file that the machines' host keys stand in."""
    return Path(config.ssh.known_hosts or KNOWN_HOSTS).expanduser()


def check(hosts: HostsSection) -> None:
    """Raises BadConfig for what is no address, and for a machine that is named twice."""
    seen: dict[tuple[str, int], str] = {}
    for text in hosts.addresses:
        address = parse_address(text, "hosts.addresses")
        first = seen.setdefault((address.host.lower(), address.port), text)
        if first is not text or hosts.addresses.count(text) > 1:
            raise BadConfig(f"hosts.addresses: {text!r} is the same machine as {first!r}; a machine is one worker")
    if hosts.coordinator:
        parse_address(hosts.coordinator, "hosts.coordinator")


def named_nodes(
    hosts: HostsSection, records: Sequence[NodeRecord], next_node: int = 1, *, has_coordinator: bool = False
) -> list[tuple[str, Role, str]]:
    """(node, role, address) of every machine: by live records, then, in the order of the configuration, by the next numbers."""
    known: dict[tuple[str, Role], str] = {
        (record.machine, record.role): record.name for record in records if record.machine and not record.ended_at
    }
    number = max([next_node, *(number_of(record.name)[0] + 1 for record in records)])
    wanted: list[tuple[str, Role]] = [(text, "worker") for text in dict.fromkeys(hosts.addresses)]
    if has_coordinator and hosts.coordinator:
        wanted.append((hosts.coordinator, "coordinator"))
    for key in wanted:
        if key not in known:
            known[key] = f"n{number}"
            number += 1
    return sorted(((node, role, text) for (text, role), node in known.items()), key=lambda named: number_of(named[0]))


def machine_of(node: str, role: Role, text: str, user: str = "") -> Machine:
    """A machine as it is named. Whether it runs is seen when it is reached."""
    address = parse_address(text, "hosts.addresses")
    return Machine(
        id=text, node=node, state="running", role=role, address=address.host, port=address.port,
        user=address.user or user or getpass.getuser(),
    )  # fmt: skip


def _not_ours(machines: Sequence[Machine]) -> None:
    if machines:
        raise DoesNotFit(
            f"{machines[0].id} is a machine of yours, which tilefleet does not switch on or off; do so yourself, its node comes "
            "back by itself"
        )
