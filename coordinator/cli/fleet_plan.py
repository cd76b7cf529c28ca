"""What ``fleet up``, ``sync`` and ``start`` are about to do, and what that costs: looked up, and said before it is done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from coordinator.cli.fleet_door import remark
from coordinator.cli.session import Session
from tilefleet.errors import NotFound

if TYPE_CHECKING:
    from coordinator.fleet.deciding.foresight import Foresight
    from coordinator.fleet.fleet import Fleet
    from tilefleet.config import Config


class Planned(NamedTuple):
    """What will be done, in the words that were shown."""

    foresight: Foresight
    cost: str
    spends: bool
    """Whether machines are launched or switched on that are paid for."""


async def plan(fleet: Fleet) -> Planned:
    """One look at what there is, and what is missing."""
    from coordinator.fleet.convergence import desired_of, observe
    from coordinator.fleet.deciding.foresight import foresee
    from coordinator.fleet.deciding.picture import Observed
    from coordinator.fleet.deciding.reconcile import outdated, reconcile
    from coordinator.fleet.money.spending import own_machines_line

    desired = desired_of(fleet, is_update=True)
    try:
        observed = await observe(fleet)
    except NotFound:  # the bucket is still to be made
        observed = Observed(machines=tuple(await fleet.provider.machines()))
    there = {belonging.kind for belonging in await fleet.provider.belongings()}
    late = [node.name for node in outdated(desired, observed)]
    foresight = foresee(reconcile(desired, observed, time.time()), late, fleet.config, there)
    if not fleet.provider.can_launch:
        return Planned(foresight, own_machines_line(len(desired.hosts or ())), spends=False)
    n_paid = foresight.n_launched + foresight.n_started
    return Planned(foresight, await cost_of(fleet, n_paid, foresight.n_coordinators), spends=n_paid > 0)


async def cost_of(fleet: Fleet, n_machines: int, n_coordinators: int = 0) -> str:
    """The cost line of so many more machines; a coordinator among them is never spot."""
    from coordinator.fleet.money import prices
    from coordinator.fleet.money.spending import Beside, Lot, cost_line, end_of
    from tilefleet.aws import region_of

    ec2 = fleet.config.ec2
    kind, sure = ec2.instance_types[0], n_coordinators if ec2.market != "on-demand" else 0
    lots = [Lot(n_machines - sure, await fleet.provider.price(), kind, ec2.market)]
    if sure:
        lots.append(Lot(sure, await fleet.provider.price(kind, "on-demand"), kind, "on-demand"))
    gib = ec2.volume.bytes / 2**30
    beside = Beside(gib, prices.bundled().beside(gib, region_of(ec2.region, fleet.config.store.region)))
    return cost_line(lots, beside=beside, ends=end_of(fleet.config.nodes, lifetime_s=ec2.lifetime.s, dead_man_s=ec2.dead_man.s))


def show(session: Session, config: Config, planned: Planned, *, is_dry: bool) -> None:
    """For people before the question; as the result of a dry run."""
    from coordinator.fleet.deciding.foresight import lines

    said = lines(planned.foresight) or ["everything is there; it is looked at again"]
    text = "\n".join([f"fleet {config.fleet.name}", *(f"  {line}" for line in said), f"cost: {planned.cost}"])
    if not is_dry:
        remark(session, text)
        return
    foresight = planned.foresight
    would = {"make": list(foresight.things), **foresight.nodes}
    session.show(
        f"{text}\nnothing was done: this was a dry run", {"fleet": config.fleet.name, "would": would, "cost": planned.cost}
    )
