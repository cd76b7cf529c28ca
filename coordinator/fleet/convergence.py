"""Carries out what ``reconcile`` decides, until there is nothing left to do.

The rules: everything happens at once, set-ups at most ``nodes.at_once``; every wait has a deadline; a node that fails holds
nobody up; records are written before and after each thing that costs money, so that whoever is cut off can be followed by
whoever comes next. The caller holds the fleet's turn.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from msgspec.structs import replace

from coordinator.fleet.acting import Acting, Failure
from coordinator.fleet.deciding.picture import Desired, Observed, is_given_up, is_good, nodes_of
from coordinator.fleet.deciding.reconcile import is_converged, waits_for
from coordinator.fleet.deciding.scaling import Load, limits_of, over_budget
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.money.costs import rate_usd_per_hour, spent_usd
from coordinator.fleet.observing import Ears, look
from coordinator.fleet.ports import Refused, Tell, Watch
from coordinator.fleet.records import Role
from tilefleet.backoff import persist
from tilefleet.errors import BadConfig, DoesNotFit
from tilefleet.records import Control

__all__ = ["Failure", "Outcome", "converge", "desired_of", "observe", "update_all"]

STILL_S = 900.0  # nothing happens and nothing is done: a machine that stops for ever, a provider that shows nothing
A_DAY_S = 86400.0
AWAY_S = 60.0  # a store or a provider that does not answer is waited for this long


class Outcome(NamedTuple):
    """How far it came."""

    is_converged: bool
    """Everything is as desired."""
    ready: tuple[str, ...] = ()
    """Nodes that work, coordinators included."""
    failures: tuple[Failure, ...] = ()
    refused: tuple[Refused, ...] = ()
    """Machines that could not be launched."""
    rolled_back: tuple[str, ...] = ()
    """Nodes that did not come back from an update and run the earlier release again; updating stopped there."""


def desired_of(fleet: Fleet, *, is_update: bool = False, n_workers: int | None = None) -> Desired:
    """What the configuration asks for. ``n_workers`` instead of its ``nodes.count``: by autoscaling."""
    config, nodes = fleet.config, fleet.config.nodes
    has_coordinator = nodes.coordinator == "node"
    roles: tuple[Role, ...] = ("worker", "coordinator") if has_coordinator else ("worker",)
    count = nodes.count if not nodes.max_nodes else min(max(nodes.count, nodes.min_nodes), nodes.max_nodes)
    hosts = None if fleet.provider.can_launch else tuple(config.hosts.addresses)
    return Desired(
        n_workers=len(hosts) if hosts is not None else count if n_workers is None else n_workers,
        release=fleet.installer.release,
        settings={role: fleet.installer.settings(role) for role in roles},
        has_coordinator=has_coordinator,
        hosts=hosts,
        coordinator_host=config.hosts.coordinator,
        is_update=is_update,
        attempts=nodes.attempts,
        boot_s=nodes.boot.s,
        replace_after_s=nodes.replace_after.s,
    )


async def observe(fleet: Fleet) -> Observed:
    """One look at machines, records and the leader's control object."""
    return await look(fleet.provider, fleet.nodes, _ears(fleet))


async def converge(fleet: Fleet, desired: Desired, *, watch: Watch, tell: Tell, once: bool = False) -> Outcome:
    """Make it so, and wait until it is, or until nothing more can be done. ``once``: one round of actions, and their end.

    Cancelled at any time it leaves what is done, written down; called again it goes on from there. Raises DoesNotFit when the
    fleet's budget is used up: its keeper would end at once what is made here; BadConfig when nobody could tell that it is.
    """
    if desired.n_workers and fleet.provider.can_launch:
        await _check_budget(fleet)
    if desired.failures_since:
        await forgive(fleet)
    await prune(fleet)
    convergence = Convergence(fleet, desired, watch, tell)
    try:
        return await convergence.run(once=once)
    finally:
        await convergence.end()


async def _check_budget(fleet: Fleet) -> None:
    if fleet.config.nodes.max_cost_usd:
        kinds = fleet.config.ec2.instance_types
        if unpriced := [kind for kind in kinds if await fleet.provider.price(kind, "on-demand") is None]:
            raise BadConfig(
                f"nodes.max_cost_usd cannot be kept, as it is not known here what {', '.join(unpriced)} costs; ask for "
                "pricing:GetProducts, name other ec2.instance_types, or set nodes.max_hours instead"
            )
    record, now = await fleet.nodes.fleet(), time.time()
    records = await fleet.nodes.nodes()
    age_s = now - record.created_at if record is not None else 0.0
    load = Load(0, spent_usd=spent_usd(record, records, now), rate_usd_per_hour=rate_usd_per_hour(records), age_s=age_s)
    if reason := over_budget(limits_of(fleet.config.nodes), load):
        raise DoesNotFit(reason)


async def update_all(fleet: Fleet, desired: Desired, *, watch: Watch, tell: Tell) -> Outcome:
    """The same with updates: one node at a time is drained, changed, started and heard; the first that does not come back is
    rolled back, and the rest stay as they are."""
    return await converge(fleet, replace(desired, is_update=True), watch=watch, tell=tell)


async def forgive(fleet: Fleet) -> None:
    """Nodes that were given up get all their attempts again: a person has looked at them."""
    for record in await fleet.nodes.nodes():
        if record.state == "failed" and record.attempts and not record.ended_at:
            await fleet.nodes.save(replace(record, attempts=0))


async def prune(fleet: Fleet) -> None:
    """What ended a day ago leaves its cost and its number in the fleet's record."""
    now = time.time()
    old = [record for record in await fleet.nodes.nodes() if record.ended_at and now - record.ended_at > A_DAY_S]
    await fleet.nodes.retire(old, now)


def _ears(fleet: Fleet) -> Ears:
    return Ears(fleet.store, fleet.config.coordinator.beacon.s)


class Convergence:
    """A fleet on its way to what is desired, which may change. ``look`` and ``act`` are for the keeper, ``run`` for commands."""

    def __init__(self, fleet: Fleet, desired: Desired, watch: Watch, tell: Tell, *, is_patient: bool = False) -> None:
        self._fleet = fleet
        self._ears = _ears(fleet)
        self._acting = Acting(fleet, desired, self._ears, watch, tell, is_patient=is_patient)
        self._desired = desired
        self._still_since = time.monotonic()

    @property
    def desired(self) -> Desired:
        """What it is going for."""
        return self._desired

    @desired.setter
    def desired(self, desired: Desired) -> None:
        self._desired = self._acting.desired = desired

    @property
    def control(self) -> Control | None:
        """What the leader said at the last look; None when nobody leads."""
        return self._ears.control

    async def look(self) -> Observed:
        """What there is now."""
        return await look(self._fleet.provider, self._fleet.nodes, self._ears, self._acting.busy)

    def is_to_act(self, observed: Observed) -> bool:
        """Whether something is under way, or to be begun now."""
        return bool(self._acting.busy) or self._acting.is_due(observed)

    async def act(self, observed: Observed) -> None:
        """Begin what is to be done. Raises what the provider or the store refused of what was begun before."""
        self._acting.raise_failures()
        await self._acting.begin(observed)

    async def run(self, *, once: bool = False) -> Outcome:
        """Until nothing is left to do."""
        while True:
            observed = await persist(self.look, for_s=AWAY_S)
            await self.act(observed)
            if once:
                await self._acting.finish()
                return self._outcome(await self.look())
            if not self._acting.busy and not observed.busy and self._is_over(observed):
                return self._outcome(observed)  # what was judged: at a later look a new leader may lead, that has heard nobody
            await self._acting.pause(self._fleet.poll_s)

    async def end(self) -> None:
        """Cut off what is under way."""
        await self._acting.cancel()

    def _is_over(self, observed: Observed) -> bool:
        """Nothing is left to do and to wait for; or what is waited for has not moved for very long."""
        if self._acting.is_going_on(observed):
            self._still_since = time.monotonic()
            return False
        if waits_for(self.desired, observed, time.time()):
            return time.monotonic() - self._still_since > STILL_S
        return True

    def _outcome(self, observed: Observed) -> Outcome:
        nodes = nodes_of(observed)
        ready = tuple(node.name for node in nodes if is_good(node, self.desired))
        open_ = [
            Failure(node.name, node.record.step, node.record.failure)
            for node in nodes
            if node.record is not None and node.record.state == "failed" and is_given_up(node, self.desired)
        ]
        failures = {failure.node: failure for failure in (*open_, *self._acting.troubles.values(), *self._acting.failures)}
        return Outcome(
            is_converged(self._acting.desired, observed, time.time()) and not self._acting.rolled_back,
            ready,
            tuple(failures.values()),
            tuple(self._acting.refused.values()),
            tuple(self._acting.rolled_back),
        )
