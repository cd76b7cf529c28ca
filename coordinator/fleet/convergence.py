"""Carries out what ``reconcile`` decides, until there is nothing left to do.

The rules: everything happens at once, set-ups at most ``nodes.at_once``; every wait has a deadline; a node that fails holds
nobody up; records are written before and after each thing that costs money, so that whoever is cut off can be followed by
whoever comes next. The caller holds the fleet's turn.
"""

from __future__ import annotations

from typing import NamedTuple

from coordinator.fleet.fleet import Fleet
from coordinator.fleet.ports import Refused, Tell, Watch
from coordinator.fleet.reconcile import Desired, Observed


class Failure(NamedTuple):
    """A node that did not become what it should."""

    node: str
    step: str
    sentence: str
    """What went wrong, with the node's own last lines."""
    is_replaced: bool = False


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
    """What the configuration asks for. ``n_workers`` instead of its ``nodes.count``: by autoscaling or an option."""
    raise NotImplementedError


async def observe(fleet: Fleet) -> Observed:
    """One look at machines, records and the leader's control object."""
    raise NotImplementedError


async def converge(fleet: Fleet, desired: Desired, *, watch: Watch, tell: Tell, once: bool = False) -> Outcome:
    """Make it so, and wait until it is, or until nothing more can be done. ``once``: one round of actions, and their end."""
    raise NotImplementedError


async def update_all(fleet: Fleet, desired: Desired, *, watch: Watch, tell: Tell) -> Outcome:
    """The same with updates: one node at a time is drained, changed, started and heard; the first that does not come back is
    rolled back, and the rest stay as they are."""
    raise NotImplementedError
