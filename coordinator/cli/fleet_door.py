"""``tilefleet fleet``: the group that the fleet's commands are declared in, and what all of them begin with.

The rule: nothing is made, changed or removed before a person (or ``--yes``) has seen what, and what it costs.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
import textwrap
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import typer

from coordinator.cli.door import family
from coordinator.cli.session import Session, terminal_columns
from tilefleet.errors import BadConfig, NotFound

if TYPE_CHECKING:
    from coordinator.fleet.records import FleetRecord
    from tilefleet.config import Config

ORDER = ("up", "status", "logs", "ssh", "exec", "sync", "stop", "start", "down", "gc")

group = family("fleet", "Make the machines of a fleet, look after them, and take them down again.", under="Fleet", order=ORDER)


def fleet_config(session: Session) -> Config:
    """The configuration in force, with its store's URL as it is for these credentials. Raises BadConfig when it names no
    machines."""
    from tilefleet.account import pinned, resolved

    config = session.config()
    if config.nodes.provider == "none":
        raise BadConfig(
            f"{session.config_source()} describes no machines; name a config file of a fleet with --config, or set "
            'nodes.provider = "ec2" (machines that are made) or "hosts" (machines that you have)'
        )
    return pinned(resolved(config))


async def as_chosen(config: Config) -> Config:
    """With the number of nodes and the place of the coordinator that ``fleet up`` was told last. Raises BadConfig when the store
    is another fleet's."""
    from coordinator.fleet.deciding.choices import as_chosen

    record = await _record(config)
    return config if record is None else as_chosen(config, record)


async def as_made(config: Config) -> Config:
    """The same, of a fleet that there is: raises NotFound before its first ``up`` and after its ``down``."""
    from coordinator.fleet.deciding.choices import as_chosen

    record = await _record(config)
    if record is None:
        raise NotFound(f"there is no fleet {config.fleet.name}; 'tilefleet fleet up' makes it")
    return as_chosen(config, record)


async def _record(config: Config) -> FleetRecord | None:
    from coordinator.fleet.node_store import NodeStore
    from tilefleet.store import Stores

    try:
        return await NodeStore(Stores(config.store).open(config.store.url)).fleet_of(config.fleet.name)
    except NotFound:  # there is no bucket yet
        return None


def this_command(session: Session, words: str) -> str:
    """How to say another command of the same fleet: ``tilefleet fleet status --config fleet.toml``."""
    return f"tilefleet {words}{f' --config {shlex.quote(session.config_path)}' if session.config_path else ''}"


def remark(session: Session, text: str) -> None:
    """Lines for people, broken between words where a terminal ends."""
    columns = terminal_columns() if sys.stderr.isatty() else None
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        wrapped = textwrap.wrap(line, columns, subsequent_indent=indent, break_on_hyphens=False) if columns else [line]
        session.remark("\n".join(wrapped))


def carry_out(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a command that changes the fleet. Ctrl-C ends it with 130 and one line: everything it does can be gone on with."""
    try:
        asyncio.run(coroutine)
    except KeyboardInterrupt:
        typer.echo("tilefleet: interrupted; what is done stays, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
