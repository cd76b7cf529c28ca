"""What ``fleet up`` would do, said before it does it: pure, from the first round of actions and what is there already.

The rule: what is listed is what would be made or changed now; nothing is left out because it costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from coordinator.fleet.deciding.reconcile import (
    Accept,
    Action,
    Drain,
    Forget,
    GiveUp,
    Launch,
    Restart,
    SetUp,
    Start,
    Terminate,
    Update,
)
from tilefleet.config import Config

SAID: dict[type[Action], str] = {
    Launch: "launch",
    Start: "switch on",
    SetUp: "set up",
    Restart: "start again, as it was not heard",
    Update: "update",
    Accept: "take back, as it is heard again",
    Drain: "drain, then take down",
    Terminate: "take down",
    GiveUp: "give up and replace",
    Forget: "forget, as the machine is gone",
}


class Foresight(NamedTuple):
    """What is about to happen."""

    nodes: dict[str, tuple[str, ...]]
    """Node names by what is done about them."""
    things: tuple[str, ...]
    """What is made beside machines, where it is missing."""
    n_launched: int
    n_started: int
    n_coordinators: int = 0
    """Of those that are launched."""


def foresee(actions: Iterable[Action], outdated: Sequence[str], config: Config, there: Collection[str]) -> Foresight:
    """``outdated``: nodes with another release or other settings. ``there``: kinds of belongings that exist already."""
    nodes: dict[str, list[str]] = {}
    n_coordinators = 0
    for action in actions:
        nodes.setdefault(SAID[type(action)], []).append(action.node)
        n_coordinators += isinstance(action, Launch) and action.role == "coordinator"
    if outdated:
        nodes[SAID[Update]] = list(outdated)  # of which reconcile names one at a time
    return Foresight(
        {said: tuple(names) for said, names in nodes.items()},
        tuple(thing for kind, thing in _things(config) if kind not in there),
        len(nodes.get(SAID[Launch], ())),
        len(nodes.get(SAID[Start], ())),
        n_coordinators,
    )


def _things(config: Config) -> list[tuple[str, str]]:
    """(kind of ``Belonging``, in words) of what a fleet needs beside its machines, where its config does not name one."""
    things = [("queue", f"6 SQS queues, {config.fleet.name}-operations to {config.fleet.name}-completions-dead")]
    if config.nodes.provider != "ec2":
        return things
    ec2 = config.ec2
    things.append(("bucket", f"bucket {config.store.url.removeprefix('s3://').partition('/')[0]}"))
    if not ec2.instance_profile:
        things.append(("instance profile", "role and instance profile of the nodes (config/iam/node.json)"))
    if not ec2.security_group:
        admits = "nobody" if config.nodes.transport == "ssm" else ec2.ssh_from or "this machine's address"
        things.append(("security group", f"security group that admits SSH from {admits} alone"))
    if ec2.s3_endpoint:
        things.append(("VPC endpoint", "S3 gateway endpoint (free)"))
    things.append(("launch template", "launch template"))
    return things


def lines(foresight: Foresight) -> list[str]:
    """For people, one thing a line."""
    found = [f"make: {thing}" for thing in foresight.things]
    for said, names in foresight.nodes.items():
        found.append(f"{said}: {_listed(names)}")
    return found


LISTED = 12


def _listed(names: Sequence[str]) -> str:
    if len(names) <= LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:LISTED])} and {len(names) - LISTED} more"
