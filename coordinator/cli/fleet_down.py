"""``tilefleet fleet down``: everything that was made is removed, and nothing else.

The rule: what is listed is what is removed; it is looked for again afterwards, and what is still there is said.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from coordinator.cli.asking import YesOption, agree
from coordinator.cli.door import command
from coordinator.cli.fleet_door import as_chosen, carry_out, fleet_config, group, remark
from coordinator.cli.fleet_live import Display, display
from coordinator.cli.render import count_text, table
from coordinator.cli.session import Session
from tilefleet.errors import NodesFailed, NotFound

if TYPE_CHECKING:
    from coordinator.fleet.connections.everywhere import Missed, Target
    from coordinator.fleet.fleet import Fleet
    from coordinator.fleet.ports import Connection
    from coordinator.fleet.records import Belonging, FleetRecord, NodeRecord
    from tilefleet.config import Config

KeepDataOption = Annotated[
    bool, typer.Option("--keep-data", help="Leave results and operations in the store, and the bucket: 'fleet up' finds them.")
]
DATA = ("data", "bucket")


class Inventory(NamedTuple):
    """What there is of the fleet."""

    belongings: list[Belonging]
    hosts: list[Target]
    """Machines of yours that something was installed on."""
    record: FleetRecord | None
    here_pid: int | None
    n_open: int = 0
    """Operations that have not ended, as a coordinator said last."""

    @property
    def is_empty(self) -> bool:
        return not self.belongings and not self.hosts and self.here_pid is None and self.record is None


@command(
    "down", of=group,
    examples=(
        ("tilefleet fleet down --config fleet.toml", "list everything, ask, remove it, look again"),
        ("tilefleet fleet down --keep-data --config fleet.toml", "the same, but results stay in the bucket"),
    ),
)  # fmt: skip
def down(session: Session, keep_data: KeepDataOption = False, yes: YesOption = False) -> None:
    """Take the fleet down. Lists what carries its tag, asks, removes that and nothing else, and shows that nothing remains.

    Machines of yours are not touched but for what "fleet up" installed on them."""
    carry_out(_down(session, fleet_config(session), keep_data=keep_data, is_agreed=yes))


async def _down(session: Session, config: Config, *, keep_data: bool, is_agreed: bool) -> None:
    from coordinator.fleet.fleet import opened

    config = await as_chosen(config)
    name = config.fleet.name
    async with opened(config) as fleet:
        there = await _inventory(fleet, keep_data=keep_data)
        if there.is_empty:
            _remove_files(fleet)
            session.show(f"there is nothing of a fleet {name}", {"fleet": name, "removed": [], "left": [], "missed": []})
            return
        remark(session, f"of the fleet {name} there {'is' if _count(there) == 1 else 'are'}:\n{_listed(there)}")
        if there.n_open:
            remark(session, unfinished_text(there.n_open, keep_data=keep_data))
        agree(session, f'Remove all of this? Type "{name}" to go on:', is_agreed=is_agreed, expected=name)
        with display(f"fleet {name}: taking it down", is_json=session.is_json) as shown:
            missed = await _remove(fleet, there, shown, keep_data=keep_data)
            left = (await _inventory(fleet, keep_data=keep_data)).belongings
            left = [one for one in left if not (missed and one.kind == "data")]  # the records of nodes that were missed
        if not missed and not left:
            _remove_files(fleet)
        _conclude(session, fleet, there, left, missed)


async def _inventory(fleet: Fleet, *, keep_data: bool) -> Inventory:
    from coordinator.fleet import here
    from coordinator.fleet.connections.everywhere import Target

    belongings = [one for one in await fleet.provider.belongings() if not (keep_data and one.kind in DATA)]
    try:
        record, records = await fleet.nodes.fleet(), await fleet.nodes.nodes()
    except NotFound:
        record, records = None, []
    hosts: list[Target] = []
    if not fleet.provider.can_launch and records:
        machines = {machine.node: machine for machine in await fleet.provider.machines()}
        current = [one for one in records if not one.ended_at and one.name in machines]
        hosts = [Target(machines[one.name], one) for one in current]
    n_open = await _n_open(fleet) if record is not None else 0
    return Inventory(belongings, hosts, record, here.running_pid(fleet.files), n_open)


async def _n_open(fleet: Fleet) -> int:
    from coordinator.runtime.leadership import last_beacon

    control = await last_beacon(fleet.store)
    return control.n_open if control is not None else 0


def unfinished_text(n_open: int, *, keep_data: bool) -> str:
    """What becomes of operations that have not ended. Workers are not drained for them: what they hold would end, no more."""
    if keep_data:
        return f"{count_text(n_open, 'operation')} not ended; what is computed is kept, and they go on after the next 'fleet up'"
    return f"{count_text(n_open, 'operation')} not ended: they end now, and what they have computed is removed"


def _count(there: Inventory) -> int:
    return len(there.belongings) + len(there.hosts) + (there.here_pid is not None)


def _listed(there: Inventory) -> str:
    rows: list[tuple[str, str, str]] = [(one.kind, one.id, one.detail) for one in there.belongings]
    rows += [("set-up", host.machine.id, f"{host.record.name}: what 'fleet up' installed there") for host in there.hosts]
    if there.here_pid is not None:
        rows.append(("coordinator", f"process {there.here_pid}", "on this machine"))
    if there.record is not None and not any(one.kind == "data" for one in there.belongings):
        rows.append(("records", "fleet/", "of the fleet and its nodes, in the store"))
    return table(rows, indent="  ")


async def _remove(fleet: Fleet, there: Inventory, shown: Display, *, keep_data: bool) -> list[Missed]:
    from coordinator.fleet import here
    from coordinator.fleet.turn import held, this_process

    data = [one for one in there.belongings if one.kind in DATA]
    if there.record is None:  # no store, or nothing in it: nobody else can be changing this fleet
        missed = await _take_down(fleet, there, shown)
    else:
        async with held(fleet.store, this_process("fleet down"), shown.tell):
            missed = await _take_down(fleet, there, shown)
    if data:  # the turn lies in the store too, so it is let go first
        await fleet.provider.remove(data, shown.tell)
    if there.record is not None and not any(one.kind == "bucket" for one in data):
        await _forget(fleet, there, {one.node for one in missed})
        shown.tell("removed the records of the fleet and its nodes")
    if await here.stop(fleet.config, fleet.files):
        shown.tell("stopped the coordinator of this machine")
    return missed


async def _take_down(fleet: Fleet, there: Inventory, shown: Display) -> list[Missed]:
    """The coordinator first: it would replace what goes. What it made until now, listed or not, goes too."""
    from coordinator.fleet import here
    from coordinator.fleet.connections.everywhere import on_each

    if await here.stop(fleet.config, fleet.files):
        shown.tell("stopped the coordinator of this machine")

    async def undo(connection: Connection, record: NodeRecord) -> None:
        await fleet.installer.undo(connection, record)

    missed = await on_each(fleet, there.hosts, "undo", undo, shown.watch)
    if machines := [one for one in await fleet.provider.belongings() if one.kind not in DATA]:
        await fleet.provider.remove(machines, shown.tell)
    return missed


async def _forget(fleet: Fleet, there: Inventory, missed: set[str]) -> None:
    """Everything below ``fleet/``, but the records of nodes that could not be reached: the next ``down`` needs them."""
    from coordinator.fleet.node_store import NodeStore
    from tilefleet import layout

    await fleet.store.delete_prefix(layout.FLEET.partition("/")[0])
    nodes = NodeStore(fleet.store)
    for host in there.hosts:
        if host.record.name in missed:
            await nodes.save(host.record)
    if missed and there.record is not None:
        await nodes.save_fleet(there.record)


def _remove_files(fleet: Fleet) -> None:
    shutil.rmtree(fleet.files.root, ignore_errors=True)


def _conclude(session: Session, fleet: Fleet, there: Inventory, left: Sequence[Belonging], missed: Sequence[Missed]) -> None:
    name = fleet.config.fleet.name
    document = {
        "fleet": name,
        "removed": [msgspec.to_builtins(one) for one in there.belongings if one not in left],
        "hosts": [host.machine.id for host in there.hosts if host.record.name not in {one.node for one in missed}],
        "left": [msgspec.to_builtins(one) for one in left],
        "missed": [one._asdict() for one in missed],
    }
    if not left and not missed:
        session.show(f"nothing of the fleet {name} is left: it was looked for again", document)
        return
    session.show("", document)
    lines = [f"{one.kind} {one.id} is still there ({one.detail})" for one in left]
    lines += [one.sentence if one.sentence.startswith(one.node) else f"{one.node}: {one.sentence}" for one in missed]
    told = "".join("\n  " + line.replace("\n", "\n    ") for line in lines)
    raise NodesFailed(f"not everything could be removed; run the same command again when this is mended{told}")
