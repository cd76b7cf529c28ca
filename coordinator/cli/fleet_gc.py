"""``tilefleet fleet gc``: what fleets that are no more left behind in an account and region.

The rule: it is found by our tag alone, shown with its age and cost, and removed when somebody says so; data is never removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from coordinator.cli.asking import YesOption, agree
from coordinator.cli.door import command
from coordinator.cli.fleet_door import carry_out, group, remark
from coordinator.cli.fleet_live import display
from coordinator.cli.render import count_text, table
from coordinator.cli.session import Session
from tilefleet.errors import NodesFailed
from tilefleet.quantities import format_seconds, parse_seconds

if TYPE_CHECKING:
    from coordinator.fleet.ec2.orphans import Traces
    from coordinator.fleet.records import Belonging
    from tilefleet.config import Config

DATA = ("data", "bucket")

OlderOption = Annotated[
    str, typer.Option("--older", metavar="DURATION", help="Only of fleets whose coordinator was not heard for so long.")
]
StoppedOption = Annotated[
    bool, typer.Option("--stopped", help="Also of fleets all of whose instances are stopped, as after 'fleet stop'.")
]


@command(
    "gc", of=group,
    examples=(
        ("tilefleet fleet gc", "what dead fleets left in the account and region of these credentials"),
        ("tilefleet fleet gc --older 1d --yes", "remove it without being asked, from a timer"),
        ("tilefleet fleet gc --older 30d --stopped", "also what was switched off a month ago and forgotten"),
    ),
)  # fmt: skip
def gc(session: Session, older: OlderOption = "2h", stopped: StoppedOption = False, yes: YesOption = False) -> None:
    """Find what dead fleets left behind in this account and region. Shows its age and cost, and removes it when you say so.

    A fleet is taken for dead when its coordinator was not heard for so long. One that was switched off with "fleet stop" is
    silent too: it is left alone, and named, unless --stopped is given. Data and buckets are kept; "fleet down" removes them."""
    carry_out(_gc(session, session.config(), parse_seconds(older), are_stopped_too=stopped, is_agreed=yes))


async def _gc(session: Session, config: Config, older_s: float, *, are_stopped_too: bool, is_agreed: bool) -> None:
    from coordinator.fleet.ec2.orphans import remove, traces

    now = time.time()
    found = await traces(config)
    for one in found:
        if one.trouble and removable(one):
            remark(session, f"fleet {one.fleet} is left alone, as nobody knows whether it lives: {one.trouble}")
    dead, switched_off = chosen(found, older_s, now, are_stopped_too=are_stopped_too)
    for one in switched_off:
        remark(session, f"fleet {one.fleet} is left alone, as it is switched off (fleet stop); --stopped takes it too")
    condemned = [belonging for one in dead for belonging in removable(one)]
    document: dict[str, Any] = {"orphans": [msgspec.to_builtins(one) for one in dead], "removed": [], "left": []}
    if not condemned:
        session.show(f"no fleet that was silent for {format_seconds(older_s)} has left anything behind", document)
        return
    remark(session, "\n".join(described(one, now) for one in dead if removable(one)))
    agree(session, f"Remove {count_text(len(condemned), 'thing')}? [yes/no]", is_agreed=is_agreed)
    with display("removing what dead fleets left", is_json=session.is_json) as shown:
        await remove(config, condemned, shown.tell)
        still = {(one.kind, one.id) for trace in await traces(config) for one in trace.belongings}
    left = [one for one in condemned if (one.kind, one.id) in still]
    removed = [one for one in condemned if one not in left]
    session.show(f"removed {count_text(len(removed), 'thing')}", document | {"removed": _plain(removed), "left": _plain(left)})
    if left:
        raise NodesFailed(f"still there: {', '.join(f'{one.kind} {one.id}' for one in left)}; run the same command again")


def is_dead(found: Traces, older_s: float, now: float) -> bool:
    """Whether nobody was heard for long enough; a fleet that was never heard is as old as its oldest belonging. One whose store
    cannot be read is not dead."""
    return not found.is_alive and not found.trouble and now - max(found.heard_at, found.created_at) >= older_s


def chosen(found: Iterable[Traces], older_s: float, now: float, *, are_stopped_too: bool) -> tuple[list[Traces], list[Traces]]:
    """The fleets whose traces are to go; and those that are as silent, but switched off, so that they stay."""
    silent = [one for one in found if is_dead(one, older_s, now)]
    dead = [one for one in silent if are_stopped_too or not one.is_stopped]
    return dead, [one for one in silent if one not in dead]


def removable(found: Traces) -> list[Belonging]:
    """All but its data."""
    return [one for one in found.belongings if one.kind not in DATA]


def described(found: Traces, now: float) -> str:
    """A dead fleet, for people."""
    from coordinator.fleet.money.spending import usd_text

    heard = f"silent for {format_seconds(now - found.heard_at)}" if found.heard_at else "its coordinator was never heard"
    cost = f", costs {usd_text(found.usd_per_hour)} an hour" if found.usd_per_hour else ""
    kept = "".join(f"\n  kept: {one.kind} {one.id} ({one.detail})" for one in found.belongings if one.kind in DATA)
    rows = [(one.kind, one.id, one.detail) for one in removable(found)]
    return f"fleet {found.fleet}: {heard}{cost}\n{table(rows, indent='  ')}{kept}"


def _plain(found: Iterable[Belonging]) -> list[Any]:
    return [msgspec.to_builtins(one) for one in found]
