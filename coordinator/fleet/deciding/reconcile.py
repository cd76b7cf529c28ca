"""What a fleet lacks: desired and observed in, actions out. Pure, and the one place that decides about machines.

The rules, by what the provider shows of a node's machine and what its record says; the first that fits counts:

================  ==============================  ==================================================================
machine           record                          action
================  ==============================  ==================================================================
(busy)            any                             none: an earlier action on the node is still being carried out
gone, unknown     live                            Forget; a claimed name that is wanted still is launched once more
one too many      any                             Drain when it is ready and heard, else Terminate
running           leaving, worker heard           Drain, again
running           leaving, worker silent          Terminate
stopped           leaving                         Terminate
stopping          any                             none: it stops, and is then started again or forgotten
starting          any, for longer than ``boot``   GiveUp
starting          any                             none: it has until ``boot``
stopped           any                             Start
running           failed, worker heard            Accept: it came back by itself
running           failed, attempts used           GiveUp (launched machines); none (hosts: they are reported)
running           launched, failed, none          SetUp
running           ready, left with a reason       Terminate: a spot instance that is taken away, or may be any moment
running           ready, worker silent too long   Restart: set up again; when that fails it is ``failed``
running           ready, told to stop (hosts)     Restart
running           ready, other release, settings  Update, when asked for, one at a time, the coordinator last
running           ready                           none
================  ==============================  ==================================================================

Then numbers: too few nodes, and new ones are launched; too many, and those that are missed least are drained. What was
given up is replaced, but only so often an hour: a mistake in a configuration must not launch machines without end. A
machine that must not be here (no longer named by the configuration) is drained and terminated; one of another fleet never
comes into this module. Names are never used again.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from coordinator.fleet.deciding.picture import (
    Desired,
    Node,
    Observed,
    age_s,
    is_given_up,
    is_good,
    is_heard,
    is_taken,
    is_wanted,
    nodes_of,
    number_of,
)
from coordinator.fleet.records import Role

SETTLE_S = 90.0  # for a launched machine to be shown by an API that is eventually consistent
AN_HOUR_S = 3600.0
SPARE_FAILURES = 2  # in an hour as many machines may be given up as the fleet has nodes, and these


class Launch(msgspec.Struct, frozen=True):
    """Have a machine made, under a name that nobody has had, or that was claimed for it before."""

    node: str
    role: Role = "worker"


class SetUp(msgspec.Struct, frozen=True):
    """Make a machine a node."""

    node: str


class Restart(msgspec.Struct, frozen=True):
    """The same for a node that fell silent."""

    node: str


class Update(msgspec.Struct, frozen=True):
    """Bring a node to the wanted release and settings."""

    node: str


class Accept(msgspec.Struct, frozen=True):
    """A node that had failed is heard: it counts again."""

    node: str


class Start(msgspec.Struct, frozen=True):
    """Switch a machine on again."""

    node: str


class Drain(msgspec.Struct, frozen=True):
    """Have a node finish what it holds and take nothing new: it leaves."""

    node: str


class Terminate(msgspec.Struct, frozen=True):
    """End a node's machine (hosts: undo its set-up)."""

    node: str
    machine: str = ""
    """Id of a second machine under the node's name, which goes; the node itself stays."""


class GiveUp(msgspec.Struct, frozen=True):
    """The same for one that could not be set up; the reason is in its record, or here."""

    node: str
    why: str = ""


class Forget(msgspec.Struct, frozen=True):
    """A machine is gone: its record ends."""

    node: str
    why: str = ""


Action: TypeAlias = Launch | SetUp | Restart | Update | Accept | Start | Drain | Terminate | GiveUp | Forget


def reconcile(desired: Desired, observed: Observed, now: float) -> list[Action]:
    """What to do next; [] when everything is as it should be, or has to be waited for."""
    nodes = nodes_of(observed)
    surplus = _surplus(nodes, desired, observed, now)
    idle = [node for node in nodes if node.name not in observed.busy]
    actions = _duplicates(nodes, observed)
    for node in idle:
        action = _way_out(node, observed, now) if node.name in surplus else _about(node, desired, observed, now)
        if action is not None:
            actions.append(action)
    actions += _launches(nodes, desired, observed, now)
    if desired.is_update and not actions and not observed.busy:
        actions += [Update(node.name) for node in outdated(desired, observed)[:1]]
    return actions


def outdated(desired: Desired, observed: Observed) -> list[Node]:
    """Nodes with another release or other settings, in the order in which they are updated: the coordinator last, because
    a worker understands the jobs of an earlier coordinator, and not those of a later one."""
    found = [
        node
        for node in nodes_of(observed)
        if node.state == "running" and node.record is not None and node.record.state == "ready" and is_wanted(node, desired)
        and (node.record.release != desired.release
             or node.record.settings != desired.settings.get(node.role, node.record.settings))
    ]  # fmt: skip
    return sorted(found, key=lambda node: (node.role == "coordinator", number_of(node.name)))


def waits_for(desired: Desired, observed: Observed, now: float) -> list[str]:
    """Nodes of which something is still to come without an action of ours; each is bounded by a time of its own."""
    return [
        node.name
        for node in nodes_of(observed)
        if node.name in observed.busy
        or node.state in {"starting", "stopping"}
        or (node.state == "none" and desired.hosts is None and node.record is not None and bool(node.record.machine))
        or (is_good(node, desired) and _silent_since(node, observed) is not None and not is_heard(node, observed, now))
    ]


def is_converged(desired: Desired, observed: Observed, now: float) -> bool:
    """Whether everything is as desired."""
    nodes = nodes_of(observed)
    good = [node for node in nodes if is_good(node, desired)]
    n_workers = sum(node.role == "worker" for node in good)
    return (
        not observed.busy
        and not reconcile(desired, observed, now)
        and not waits_for(desired, observed, now)
        and n_workers == (len(desired.hosts) if desired.hosts is not None else desired.n_workers)
        and (len(good) > n_workers) == desired.has_coordinator
    )


# ---- one node


def _about(node: Node, desired: Desired, observed: Observed, now: float) -> Action | None:
    """The table above, for one node that nothing is being done about and that is not one too many."""
    record = node.record
    if not node.is_live:
        return _without_machine(node, desired, now)
    if record is not None and (node.is_leaving or record.ended_at or is_taken(node, desired, observed)):
        return _way_out(node, observed, now)
    match node.state:
        case "starting" if _is_stuck(node, desired, now):
            return GiveUp(node.name, f"its machine did not start within {desired.boot_s:.0f} s")
        case "stopped":
            return Start(node.name)
        case "running":
            return _running(node, desired, observed, now)
    return None


def _without_machine(node: Node, desired: Desired, now: float) -> Action | None:
    record = node.record
    if record is None:
        return None
    if node.machine is not None:
        return Forget(node.name, node.machine.reason or "its machine is gone")
    if not record.machine:
        return None  # claimed, and not launched: ``_launches`` takes it up or forgets it
    if now - record.launched_at < SETTLE_S and desired.hosts is None:
        return None
    return Forget(node.name, "its machine is not there any more")


def _way_out(node: Node, observed: Observed, now: float) -> Action | None:
    """Drained first when it may hold work, unless that was tried and failed; a machine that stops needs nothing.

    A coordinator holds none, and may be the one who carries this out."""
    record = node.record
    if node.state in {"stopping", "gone", "none"}:
        return None
    works = node.role == "worker" and record is not None and record.state in {"ready", "leaving"} and not record.ended_at
    if (
        works
        and node.state == "running"
        and is_heard(node, observed, now)
        and not (node.is_leaving and record and record.attempts)
    ):
        return Drain(node.name)
    return Terminate(node.name)


def _running(node: Node, desired: Desired, observed: Observed, now: float) -> Action | None:
    record = node.record
    if record is None or record.state == "launched":
        return SetUp(node.name)
    if record.state == "failed":
        if _is_back(node, desired, observed, now):
            return Accept(node.name)
        if record.attempts < desired.attempts:
            return SetUp(node.name)
        return GiveUp(node.name) if desired.hosts is None else None
    if record.stopped_at and desired.hosts is not None:
        return Restart(node.name)
    since = _silent_since(node, observed)
    return Restart(node.name) if since is not None and now - since > desired.replace_after_s else None


def _is_stuck(node: Node, desired: Desired, now: float) -> bool:
    return node.state == "starting" and age_s(node, now) > desired.boot_s


def _is_back(node: Node, desired: Desired, observed: Observed, now: float) -> bool:
    """Whether a node that failed is heard after all, with what it should run."""
    return is_heard(node, observed, now) and observed.versions.get(node.name) == desired.release


def _silent_since(node: Node, observed: Observed) -> float | None:
    """The latest time at which it was heard, or could not have been; None when nobody listens. That is a coordinator's doing."""
    led_since = 0.0 if node.role == "coordinator" else observed.led_since
    if node.machine is None or node.record is None or led_since is None:
        return None
    return max(led_since, node.record.ready_at, node.machine.launched_at, observed.heard.get(node.name, 0.0))


# ---- how many


def _counts(node: Node, desired: Desired, observed: Observed, now: float) -> bool:
    """Whether a node stands for one of those that are wanted: it works, is on its way there, or may yet come back."""
    if node.is_leaving or (node.record is not None and node.record.ended_at) or not is_wanted(node, desired):
        return False
    if node.state == "none":
        return node.record is not None and bool(node.record.machine) and desired.hosts is None
    if node.state == "stopping" and node.machine is not None and node.machine.market == "spot":
        return False  # taken away: a spot instance is not stopped
    is_lost = desired.hosts is None and is_given_up(node, desired) and not _is_back(node, desired, observed, now)
    is_lost |= is_taken(node, desired, observed)
    return node.state != "gone" and not is_lost and not _is_stuck(node, desired, now)


def _surplus(nodes: list[Node], desired: Desired, observed: Observed, now: float) -> set[str]:
    """Names of live nodes that should go, those that are missed least. A coordinator goes after the last of them."""
    there = [node for node in nodes if node.is_live and not node.is_leaving]
    going = [node for node in there if not is_wanted(node, desired)]
    if desired.hosts is None:
        for role, wanted in (("worker", desired.n_workers), ("coordinator", int(desired.has_coordinator))):
            counted = [node for node in there if node.role == role and _counts(node, desired, observed, now)]
            free = sorted((node for node in counted if node.name not in observed.busy), key=lambda n: _worth(n, observed, now))
            going += free[: max(0, len(counted) - wanted)]
    workers_go = any(node.role == "worker" for node in going) or any(
        node.is_leaving and node.is_live and node.role == "worker" for node in nodes
    )
    return {node.name for node in going if node.role == "worker" or not workers_go}


def _worth(node: Node, observed: Observed, now: float) -> tuple[int, int, float, float]:
    """Sorts those that are missed least first: failed, stopped, not set up, silent, idle; then by price, then the oldest."""
    record = node.record
    if record is not None and record.state == "failed":
        standing = 0
    elif node.state == "stopped":
        standing = 1
    elif record is None or record.state == "launched" or node.state == "starting":
        standing = 2
    else:
        standing = 4 if is_heard(node, observed, now) else 3
    price = record.usd_per_hour if record is not None else 0.0
    return (standing, observed.held.get(node.name, 0), -price, -age_s(node, now))


def _launches(nodes: list[Node], desired: Desired, observed: Observed, now: float) -> list[Action]:
    if desired.hosts is not None:
        return []
    claimed = [node for node in nodes if node.state == "none" and node.record is not None and not node.record.machine]
    n_live = sum(node.is_live or (node.state == "none" and node not in claimed) for node in nodes)
    n_live += sum(node.name in observed.busy for node in claimed)
    room = _failures_left(nodes, desired, observed, now)
    if desired.cap:
        room = min(room, desired.cap - n_live)
    known = {*observed.busy, *(record.name for record in observed.records), *(machine.node for machine in observed.machines)}
    number = max([observed.next_node, *(number_of(name)[0] + 1 for name in known)])
    actions: list[Action] = []
    roles: tuple[tuple[Role, int], ...] = (("coordinator", int(desired.has_coordinator)), ("worker", desired.n_workers))
    for role, wanted in roles:
        names = [node.name for node in claimed if node.role == role and node.name not in observed.busy]
        n_launching = sum(node.role == role and node.name in observed.busy for node in claimed)
        n_missing = wanted - n_launching - sum(node.role == role and _counts(node, desired, observed, now) for node in nodes)
        for _ in range(max(0, min(n_missing, room))):
            name = names.pop(0) if names else f"n{number}"
            number += name == f"n{number}"
            actions.append(Launch(name, role))
            room -= 1
        if n_missing <= 0:
            actions += [Forget(name, "it was not needed any more before its machine was made") for name in names]
    return actions


def _failures_left(nodes: list[Node], desired: Desired, observed: Observed, now: float) -> int:
    """How many machines may still be launched, seeing how many came to nothing, or may yet."""
    since = max(desired.failures_since, now - AN_HOUR_S)
    failed = sum(
        record.state == "failed" and record.attempts >= desired.attempts and max(record.ended_at, record.launched_at) >= since
        for record in observed.records
    )
    unproven = sum(
        (_counts(node, desired, observed, now) or (node.state == "none" and node.name in observed.busy))
        and (node.record is None or node.record.state in {"launched", "failed"})
        for node in nodes
    )
    n_wanted = desired.n_workers + desired.has_coordinator
    return max(0, n_wanted + SPARE_FAILURES - failed - unproven)


def _duplicates(nodes: list[Node], observed: Observed) -> list[Action]:
    """Machines under the name of a node that another machine is: an idempotent launch that was not."""
    own = {node.name: node.machine.id for node in nodes if node.machine is not None}
    return [
        Terminate(machine.node, machine.id)
        for machine in observed.machines
        if machine.state in {"starting", "running", "stopped"} and machine.node in own and own[machine.node] != machine.id
        and machine.node not in observed.busy
    ]  # fmt: skip
