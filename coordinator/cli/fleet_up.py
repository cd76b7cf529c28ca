"""``tilefleet fleet up`` and ``sync``: from a configuration to nodes that work, and to nodes that run what is installed here.

The rule: first what would be made and what it costs, then the question, then the work; what was done stays done, and the same
command again goes on from there.
"""

from __future__ import annotations

import getpass
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from coordinator.cli.asking import YesOption, agree
from coordinator.cli.door import command
from coordinator.cli.fleet_door import as_chosen, carry_out, fleet_config, group
from coordinator.cli.fleet_live import Display, display
from coordinator.cli.fleet_plan import plan, show
from coordinator.cli.fleet_power import start_daemons
from coordinator.cli.fleet_result import Result, conclude, coordinator_text
from coordinator.cli.session import Session
from tilefleet.errors import BadInput, NotFound

if TYPE_CHECKING:
    from coordinator.fleet.deciding.picture import Desired
    from coordinator.fleet.fleet import Fleet
    from tilefleet.config import Config


class Place(StrEnum):
    """Where the coordinator runs."""

    HERE = "here"
    NODE = "node"


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be made and what it costs, and make nothing.")]
CoordinatorOption = Annotated[
    Place | None,
    typer.Option(
        "--coordinator", metavar="here|node",
        help="here: beside this command, while this machine runs. node: on a node of its own, so that this machine may be "
        "switched off. Remembered; without it, nodes.coordinator counts.",
    ),
]  # fmt: skip
CountOption = Annotated[
    int | None, typer.Option("--count", min=1, metavar="N", help="Worker nodes. Remembered; without it, nodes.count counts.")
]


class Options(NamedTuple):
    """How much is wanted."""

    is_agreed: bool
    is_dry: bool = False
    coordinator: str = ""
    number: int = 0
    is_sync: bool = False

    @property
    def word(self) -> str:
        return "fleet sync" if self.is_sync else "fleet up"


@command(
    "up", of=group,
    examples=(
        ("tilefleet fleet up --dry-run --config fleet.toml", "what it would make, and what that costs an hour"),
        ("tilefleet fleet up --config fleet.toml", "make it; again after a failure or a change of the configuration"),
        ("tilefleet fleet up --count 8 --yes --config fleet.toml", "eight worker nodes, without being asked"),
        ("tilefleet fleet up --coordinator node --config fleet.toml", "so that this machine may be switched off"),
    ),
)  # fmt: skip
def up(
    session: Session,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    coordinator: CoordinatorOption = None,
    count: CountOption = None,
) -> None:
    """Make the fleet: machines, what they need, and tilefleet on them. Says first what that costs.

    It converges: what is there already is kept, what is missing is made, what differs from the configuration is changed, node
    by node. Ctrl-C at any time leaves what is done; the same command goes on from there."""
    config = fleet_config(session)
    if count is not None and config.nodes.provider == "hosts":
        raise BadInput("--count is for machines that are made; a fleet of hosts has those that hosts.addresses names")
    chosen = coordinator.value if coordinator is not None else ""
    carry_out(_run(session, config, Options(yes, dry_run, chosen, count or 0)))


@command(
    "sync", of=group,
    examples=(
        ("tilefleet fleet sync --dry-run --config fleet.toml", "which nodes would be updated"),
        ("tilefleet fleet sync --config fleet.toml", "after an upgrade of tilefleet here, or a change of the configuration"),
    ),
)  # fmt: skip
def sync(session: Session, dry_run: DryRunOption = False, yes: YesOption = False) -> None:
    """Bring every node to the tilefleet that is installed here and to the configuration of now, one after the other.

    A node is drained, changed and started, and the next has its turn when the leader hears it with the new version; running
    operations do not notice. The first that does not come back is rolled back, and the rest stay as they are. The coordinator
    comes last."""
    carry_out(_run(session, fleet_config(session), Options(yes, dry_run, is_sync=True)))


async def _run(session: Session, config: Config, options: Options) -> None:
    from coordinator.fleet.deciding.choices import with_choices
    from coordinator.fleet.fleet import opened

    config = with_choices(await as_chosen(config), options.number, options.coordinator)
    async with opened(config) as fleet:
        if options.is_sync and await fleet.nodes.fleet() is None:
            raise NotFound(f"there is no fleet {config.fleet.name} to be brought up to date; 'tilefleet fleet up' makes it")
        planned = await plan(fleet)
        show(session, config, planned, is_dry=options.is_dry)
        if options.is_dry:
            return
        if planned.spends:
            agree(session, "Make it? [yes/no]", is_agreed=options.is_agreed)
        with display(f"fleet {config.fleet.name}", is_json=session.is_json) as shown:
            result = await _make(fleet, options, shown)
        conclude(session, fleet, result)


async def _make(fleet: Fleet, options: Options, shown: Display) -> Result:
    from coordinator.fleet import here
    from coordinator.fleet.admission import admit_keeper
    from coordinator.fleet.convergence import update_all
    from coordinator.fleet.turn import held, this_process

    await fleet.provider.prepare(shown.tell)
    await fleet.nodes.found(fleet.config.fleet.name, by=getpass.getuser())
    is_here = fleet.config.nodes.coordinator == "here"
    running = None
    async with held(fleet.store, this_process(options.word), shown.tell):
        await _remember(fleet, options)
        if is_here:
            running = await here.ensure(fleet.config, fleet.files, fleet.store)
            shown.tell(coordinator_text(running))
        await start_daemons(fleet, shown)
        desired = _desired(fleet)
        outcome = await update_all(fleet, desired, watch=shown.watch, tell=shown.tell)
        if options.is_sync and running is not None and running.did == "found" and not outcome.rolled_back:
            running = await here.ensure(fleet.config, fleet.files, fleet.store, renew=True)
            shown.tell(coordinator_text(running))
        if not is_here and (is_led := await here.hand_over(fleet.config, fleet.files, fleet.store)) is not None:
            shown.tell("stopped the coordinator of this machine: it is on a node now")
            if not is_led:
                shown.tell("that one does not lead yet; see 'tilefleet fleet logs'")
        if not is_here and fleet.config.nodes.transport == "ssh":
            for one in await admit_keeper(fleet, shown.watch):
                shown.tell(f"{one.node}: the coordinator's keeper may not log in to the workers yet: {one.sentence}")
    return Result(outcome, desired, running, shown.elapsed_s, shown.steps.phases_s)


def _desired(fleet: Fleet) -> Desired:
    """A person has asked: what failed before does not count against another try."""
    from coordinator.fleet.convergence import desired_of

    return msgspec.structs.replace(desired_of(fleet, is_update=True), failures_since=time.time())


async def _remember(fleet: Fleet, options: Options) -> None:
    """What the command line said counts for later commands, and for the keeper."""
    record = await fleet.nodes.fleet()
    if record is not None and (options.number or options.coordinator):
        place = options.coordinator or record.coordinator
        await fleet.nodes.save_fleet(msgspec.structs.replace(record, count=options.number or record.count, coordinator=place))
