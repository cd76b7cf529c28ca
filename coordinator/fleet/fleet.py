"""The composition root of a fleet: which provider, which transport, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from coordinator.fleet.files import FleetFiles
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.ports import Provider, Transport
from coordinator.fleet.setup.installing import Installer
from tilefleet.config import Config
from tilefleet.errors import BadConfig
from tilefleet.store import Store


class Fleet:
    """A fleet as a command or the keeper holds it. Made by ``opened``; tests put their own parts together."""

    def __init__(
        self, config: Config, files: FleetFiles, store: Store, provider: Provider, transport: Transport, installer: Installer
    ) -> None:
        self.config = config
        self.files = files
        self.store = store
        self.provider = provider
        self.transport = transport
        self.installer = installer
        self.nodes = NodeStore(store)
        self.poll_s = 2.0
        """Between looks at what changes by itself: machines that start, workers that say hello."""


@asynccontextmanager
async def opened(config: Config, store: Store | None = None, *, is_keeper: bool = False) -> AsyncIterator[Fleet]:
    """The fleet that a configuration describes. Raises BadConfig when it describes no machines."""
    if config.nodes.provider == "none":
        raise BadConfig(
            'this configuration describes no machines; set nodes.provider to "ec2" (instances that are made) or "hosts" '
            "(machines that you have, named in hosts.addresses)"
        )
    if not structlog.is_configured():  # in a command, not a daemon: standard output is for its answer
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    from tilefleet.store import Stores

    files = FleetFiles(config.fleet.name)
    files.make()
    if is_keeper and config.nodes.coordinator == "node" and config.nodes.transport == "ssh" and not config.ssh.key_file:
        from coordinator.fleet.connections.keys import make_pair

        make_pair(files, config.fleet.name)
    store = store or Stores(config.store).open(config.store.url)
    provider = _provider(config, files, store)
    try:
        from coordinator.fleet.setup.installing import FromHere

        yield Fleet(config, files, store, provider, _transport(config, files, store), FromHere(config, is_keeper=is_keeper))
    finally:
        await provider.close()


def _provider(config: Config, files: FleetFiles, store: Store) -> Provider:
    if config.nodes.provider == "hosts":
        from coordinator.fleet.hosts import HostsProvider
        from coordinator.fleet.leavings import Leavings

        return HostsProvider(config, NodeStore(store), Leavings(config, store))
    from coordinator.fleet.ec2.provider import Ec2Provider

    return Ec2Provider(config, files, store)


def _transport(config: Config, files: FleetFiles, store: Store) -> Transport:
    if config.nodes.transport == "ssm":
        from coordinator.fleet.connections.ssm import SsmTransport

        return SsmTransport(config, store)
    from coordinator.fleet.connections.ssh import SshTransport

    return SshTransport(config, files)
