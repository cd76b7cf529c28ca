"""``tilefleet fleet status``: nodes, queues, store, coordinator and cost, as they are now. Changes nothing."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.door import command
from coordinator.cli.fleet_door import as_chosen, fleet_config, group
from coordinator.cli.session import Session, is_live, run, terminal_columns

if TYPE_CHECKING:
    from coordinator.fleet.look import Report
    from tilefleet.config import Config

EVERY_S = 2.0  # the leader's beacon is not written more often

WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Look again every 2 s until Ctrl-C.")]


@command(
    "status", of=group,
    examples=(
        ("tilefleet fleet status --config fleet.toml", "what each node does, what waits, what it costs"),
        ("tilefleet fleet status --watch --config fleet.toml", "the same, kept up to date"),
        ("tilefleet fleet status --json --config fleet.toml", "for a program"),
    ),
)  # fmt: skip
def status(session: Session, watch: WatchOption = False) -> None:
    """Nodes, queues, store, coordinator and cost, as they are now. Looks only, and needs no coordinator."""
    config = fleet_config(session)
    run(_watch(session, config) if watch else _once(session, config))


async def _once(session: Session, config: Config) -> None:
    from coordinator.cli.fleet_render import document, text
    from coordinator.fleet.fleet import opened
    from coordinator.fleet.look import look
    from coordinator.fleet.observing import Ears

    config = await as_chosen(config)
    async with opened(config) as fleet:
        report = await look(fleet, Ears(fleet.store, config.coordinator.beacon.s))
    now_s = time.time()
    session.show(text(report, config, now_s, _columns()), document(report, config, now_s))


async def _watch(session: Session, config: Config) -> None:
    from coordinator.cli.fleet_render import document

    config = await as_chosen(config)
    if session.is_json:
        async for report in _reports(config):
            session.say(json.dumps(document(report, config, time.time()), ensure_ascii=False))
            await asyncio.sleep(EVERY_S)
    elif is_live(sys.stdout):
        await _redraw(config)
    else:
        await _repeat(session, config)


async def _repeat(session: Session, config: Config) -> None:
    from coordinator.cli.fleet_render import text
    from coordinator.cli.render import when_text

    async for report in _reports(config):
        now_s = time.time()
        session.say(f"{when_text(now_s)}  {text(report, config, now_s, None)}\n")
        await asyncio.sleep(EVERY_S)


async def _redraw(config: Config) -> None:
    from rich.live import Live
    from rich.text import Text

    from coordinator.cli.fleet_render import text

    with Live(Text("looking …", "dim"), auto_refresh=False, vertical_overflow="crop") as shown:
        async for report in _reports(config):
            drawn = Text(text(report, config, time.time(), terminal_columns()))
            drawn.highlight_regex(r"(?m)^\S+ +(failed|lost|silent|unknown|off)\b", "red")
            drawn.highlight_regex(r"(?m)^\S+ +up\b", "green")
            shown.update(drawn, refresh=True)
            await asyncio.sleep(EVERY_S)


async def _reports(config: Config) -> AsyncIterator[Report]:
    """One look after the other."""
    from coordinator.fleet.fleet import opened
    from coordinator.fleet.look import look
    from coordinator.fleet.observing import Ears

    async with opened(config) as fleet:
        ears = Ears(fleet.store, config.coordinator.beacon.s)
        yield await look(fleet, ears)
        while True:
            yield await look(fleet, ears, is_patient=False)


def _columns() -> int | None:
    """A pipe takes lines of any length."""
    return terminal_columns() if sys.stdout.isatty() else None
