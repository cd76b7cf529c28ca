"""Nodes over SSH: the only module that knows asyncssh.

The rule: a host is talked to when it proves one of its pinned keys, and never else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordinator.fleet.files import FleetFiles
from coordinator.fleet.known_hosts import host_keys_of
from coordinator.fleet.ports import Connection, Finished
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.config import Config

__all__ = ["SshConnection", "SshTransport", "host_keys_of"]


class SshTransport:
    """A ``Transport``. Keys: ``ssh.key_file``, else the fleet's own where there is one, else (hosts) ~/.ssh/id_*; the agent's."""

    def __init__(self, config: Config, files: FleetFiles) -> None:
        self._config = config
        self._files = files

    async def connect(self, machine: Machine, record: NodeRecord, *, deadline_s: float) -> Connection:
        """See ``Transport``."""
        raise NotImplementedError


class SshConnection:
    """A ``Connection``."""

    async def run(
        self, script: str, *, deadline_s: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See ``Connection``."""
        raise NotImplementedError

    async def upload(self, local: Path, remote: str, *, deadline_s: float) -> None:
        """See ``Connection``."""
        raise NotImplementedError

    async def close(self) -> None:
        """See ``Connection``."""
