"""What convergence asks of a node's set-up: one face over ``bootstrap``, ``updating`` and what nodes are set up from."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from coordinator.fleet.ports import Connection, Watch
from coordinator.fleet.records import NodeRecord, Role
from tilefleet.config import Config
from tilefleet.errors import BadConfig

if TYPE_CHECKING:
    from coordinator.fleet.setup.steps import SetUp
    from coordinator.fleet.setup.wheelhouse import Artefacts

UNDO_S = 120.0  # stopping the daemon takes its drain time, the rest is removing files
LOOK_S = 10.0
MARGIN_S = 15.0  # of a drain: systemd's own, and the way there


class Installer(Protocol):
    """Makes machines nodes, over a connection. Every call has its deadlines; what fails raises ``bootstrap.StepFailed``."""

    @property
    def release(self) -> str:
        """Version that nodes get, such as ``0.1.0+3f9c2e71``."""

    def settings(self, role: Role) -> str:
        """Digest of what nodes of a role are told; empty where not all of that is known."""

    async def set_up(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """From a machine that answers to a running daemon of ``release``; the same call again after any failure."""

    async def update(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """To ``release`` and the settings of now: drained, switched, started."""

    async def roll_back(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """Back to the release in the record, which ran there before."""

    async def drain(self, connection: Connection, record: NodeRecord) -> None:
        """Stop the daemon: it finishes what it can and gives the rest back."""

    async def undo(self, connection: Connection, record: NodeRecord) -> None:
        """Remove what ``set_up`` made, and nothing else."""

    async def last_lines(self, connection: Connection, record: NodeRecord) -> str:
        """The end of the daemon's own log; empty when it cannot be had."""


class FromHere:
    """An ``Installer`` that sets nodes up from the tilefleet that runs here."""

    def __init__(self, config: Config, *, is_keeper: bool = False) -> None:
        self._config = config
        self._is_keeper = is_keeper

    @cached_property
    def _artefacts(self) -> Artefacts:
        from coordinator.fleet.setup.release import pack
        from coordinator.fleet.setup.wheelhouse import Artefacts

        return Artefacts(pack(), is_uploaded=self._config.nodes.packages == "upload")

    @cached_property
    def _environment(self) -> str:
        return environment_text(self._config, is_keeper=self._is_keeper)

    @property
    def release(self) -> str:
        """See ``Installer``."""
        return self._artefacts.release.version

    def settings(self, role: Role) -> str:
        """See ``Installer``. Of a node without a name, as the name is no setting that a person changes."""
        if self._has_only_contents:
            return ""
        from coordinator.fleet.setup.bootstrap import planned, settings_digest

        return settings_digest(planned(self._config, "node", role, self._environment))

    async def set_up(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """See ``Installer``."""
        from coordinator.fleet.setup.bootstrap import set_up

        await set_up(connection, self._plan(record), self._artefacts, watch)

    async def update(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """See ``Installer``."""
        from coordinator.fleet.setup.updating import update

        await update(connection, self._plan(record), self._artefacts, watch)

    async def roll_back(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """See ``Installer``."""
        from coordinator.fleet.setup.updating import roll_back

        await roll_back(connection, self._plan(record), record.release, watch)

    async def drain(self, connection: Connection, record: NodeRecord) -> None:
        """See ``Installer``."""
        from coordinator.fleet.setup.updating import drain

        await drain(connection, record.name, deadline_s=self._config.worker.drain.s + MARGIN_S, role=record.role)

    async def undo(self, connection: Connection, record: NodeRecord) -> None:
        """See ``Installer``."""
        from coordinator.fleet.setup.updating import undo

        await undo(connection, record.name, deadline_s=UNDO_S + self._config.worker.drain.s, role=record.role)

    async def last_lines(self, connection: Connection, record: NodeRecord) -> str:
        """See ``Installer``."""
        unit = "coordinator" if record.role == "coordinator" else "workerd"
        done = await connection.run(f"journalctl --unit={unit}.service --lines=5 --output=cat --no-pager", deadline_s=LOOK_S)
        return done.last_lines()

    def _plan(self, record: NodeRecord) -> SetUp:
        from coordinator.fleet.setup.bootstrap import planned

        is_there = self._has_only_contents and record.release  # as the laptop copied it, and more than we know of it
        return planned(self._config, record.name, record.role, "" if is_there else self._environment)

    @property
    def _has_only_contents(self) -> bool:
        """Whether this is a coordinator on a node, which was started with the contents of hosts.environment_file."""
        name = self._config.hosts.environment_file if self._config.nodes.provider == "hosts" else ""
        return self._is_keeper and bool(name) and not Path(name).expanduser().is_file()


def environment_text(config: Config, *, is_keeper: bool = False) -> str:
    """Of ``hosts.environment_file``; empty where none is given. Raises BadConfig when it cannot be read.

    A coordinator on a node of its own was started with the contents, and does not have the file."""
    name = config.hosts.environment_file
    if config.nodes.provider != "hosts" or not name:
        return ""
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if is_keeper:
            return "".join(f"{key}={value}\n" for key, value in sorted(os.environ.items()) if key.startswith("AWS_"))
        raise BadConfig(f"hosts.environment_file: {name} cannot be read: {error}") from error
