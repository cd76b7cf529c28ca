"""``tilefleet fleet stop`` and ``start``: machines that are kept, and not paid for by the hour while they are off.

The rule: nodes are drained before they are switched off, and the coordinator is off before the fleet's turn is let go, so that
nobody starts them again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from coordinator.cli.asking import YesOption, agree
from coordinator.cli.door import command
from coordinator.cli.fleet_door import as_made, carry_out, fleet_config, group, remark, this_command
from coordinator.cli.fleet_live import Display, display
from coordinator.cli.fleet_plan import cost_of
from coordinator.cli.fleet_result import Result, conclude, coordinator_text
from coordinator.cli.render import count_text
from coordinator.cli.session import Session
from tilefleet.errors import NodesFailed

if TYPE_CHECKING:
    from coordinator.fleet.connections.everywhere import Missed, Target
    from coordinator.fleet.fleet import Fleet
    from coordinator.fleet.ports import Connection
    from coordinator.fleet.records import Machine, NodeRecord
    from tilefleet.config import Config


@command(
    "stop", of=group,
    examples=(("tilefleet fleet stop --config fleet.toml", "over night; 'fleet start' goes on in the morning"),),
)  # fmt: skip
def stop(session: Session) -> None:
    """Switch the fleet off and keep it. Nodes finish what they hold, then their machines are stopped (hosts: their daemons).

    Operations that have not ended go on after "fleet start". Disks are kept, and cost a little."""
    carry_out(_stop(session, fleet_config(session)))


@command(
    "start", of=group,
    examples=(("tilefleet fleet start --config fleet.toml", "switch on what 'fleet stop' switched off"),),
)  # fmt: skip
def start(session: Session, yes: YesOption = False) -> None:
    """Switch the fleet on again. Nodes rejoin by themselves, with new addresses; says first what it costs."""
    carry_out(_start(session, fleet_config(session), is_agreed=yes))


async def _stop(session: Session, config: Config) -> None:
    from coordinator.fleet import here
    from coordinator.fleet.connections.everywhere import targets_of
    from coordinator.fleet.fleet import opened
    from coordinator.fleet.turn import held, this_process

    config = await as_made(config)
    async with opened(config) as fleet:
        with display(f"fleet {config.fleet.name}: stopping", is_json=session.is_json) as shown:
            async with held(fleet.store, this_process("fleet stop"), shown.tell):
                machines, records = await fleet.provider.machines(), await fleet.nodes.nodes()
                missed = await _drain(
                    fleet,
                    [t for t in targets_of(machines, records) if t.record.state == "ready" and not t.record.stopped_at],
                    shown,
                )
                off = await _switch_off(fleet, machines, records, missed, shown)
                if await here.stop(config, fleet.files):
                    shown.tell("stopped the coordinator of this machine")
        _conclude_stop(session, fleet, off, missed)


async def _drain(fleet: Fleet, targets: list[Target], shown: Display) -> list[Missed]:
    from coordinator.fleet.connections.everywhere import on_each

    workers = [target for target in targets if target.record.role == "worker"]
    coordinators = [target for target in targets if target.record.role == "coordinator"]
    missed = await on_each(fleet, workers, "drain", fleet.installer.drain, shown.watch)
    return missed + await on_each(fleet, coordinators, "drain", fleet.installer.drain, shown.watch)


async def _switch_off(
    fleet: Fleet, machines: list[Machine], records: list[NodeRecord], missed: list[Missed], shown: Display
) -> list[Machine]:
    """Machines that can be; of the others, the daemons are off by now. It is written down: off is not sick, and costs nothing."""
    running = [machine for machine in machines if machine.state in ("starting", "running")]
    if fleet.provider.can_launch and running:
        await fleet.provider.stop(running)
        shown.tell(f"switched off {count_text(len(running), 'machine')}")
    elif not fleet.provider.can_launch:
        running = [machine for machine in running if machine.node not in {one.node for one in missed}]
    names, now = {machine.node for machine in running}, time.time()
    for record in records:
        if record.name in names and not record.ended_at and not record.stopped_at:
            await fleet.nodes.save(msgspec.structs.replace(record, stopped_at=now))
    return running


def _conclude_stop(session: Session, fleet: Fleet, off: list[Machine], missed: list[Missed]) -> None:
    said = f"{count_text(len(off), 'machine' if fleet.provider.can_launch else 'node')} stopped" if off else "nothing was running"
    kept = "; their disks are kept, and cost a little" if fleet.provider.can_launch and off else ""
    text = f"{said}{kept}\ngo on with: {this_command(session, 'fleet start')}"
    session.show(text, {"stopped": [machine.node for machine in off], "missed": [one._asdict() for one in missed]})
    if missed:
        raise NodesFailed("not drained: " + "; ".join(f"{one.node}: {one.sentence}" for one in missed))


async def _start(session: Session, config: Config, *, is_agreed: bool) -> None:
    from coordinator.fleet import here
    from coordinator.fleet.convergence import converge, desired_of
    from coordinator.fleet.fleet import opened
    from coordinator.fleet.turn import held, this_process

    config = await as_made(config)
    async with opened(config) as fleet:
        if fleet.provider.can_launch:
            n_off = sum(machine.state in ("stopping", "stopped") for machine in await fleet.provider.machines())
            remark(session, f"cost: {await cost_of(fleet, n_off)}")
            if n_off:
                agree(session, f"Switch {count_text(n_off, 'machine')} on? [yes/no]", is_agreed=is_agreed)
        running = None
        with display(f"fleet {config.fleet.name}: starting", is_json=session.is_json) as shown:
            async with held(fleet.store, this_process("fleet start"), shown.tell):
                if config.nodes.coordinator == "here":
                    running = await here.ensure(config, fleet.files, fleet.store)
                    shown.tell(coordinator_text(running))
                await start_daemons(fleet, shown)
                desired = desired_of(fleet)
                outcome = await converge(fleet, desired, watch=shown.watch, tell=shown.tell)
        conclude(session, fleet, Result(outcome, desired, running, shown.elapsed_s, shown.steps.phases_s))


async def start_daemons(fleet: Fleet, shown: Display) -> None:
    """Of nodes that ``fleet stop`` stopped on machines that stayed on. What does not start is set up again by what follows."""
    from coordinator.fleet.connections.everywhere import on_each, targets_of
    from coordinator.fleet.setup.updating import start as start_daemon

    async def start_one(connection: Connection, record: NodeRecord) -> None:
        await start_daemon(connection, record.name, deadline_s=fleet.config.nodes.step.s, role=record.role)
        await fleet.nodes.save(msgspec.structs.replace(record, stopped_at=0.0))

    if fleet.provider.can_launch:
        return
    targets = targets_of(await fleet.provider.machines(), await fleet.nodes.nodes())
    await on_each(fleet, [target for target in targets if target.record.stopped_at], "start", start_one, shown.watch)
