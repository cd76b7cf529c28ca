"""What a fleet lacks: desired and observed in, actions out. Pure, and the one place that decides about machines.

The rules, by what the provider shows of a node's machine and what its record says; the first that fits counts:

================  ==============================  ==================================================================
machine           record                          action
================  ==============================  ==================================================================
(busy)            any                             none: an earlier action on the node is still being carried out
gone, unknown     live                            Forget; a claimed name that is wanted still is launched once more
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
running           ready, worker silent too long   Restart: set up again; when that fails it is ``failed``
running           ready, other release, settings  Update, when asked for, one at a time, the coordinator last
running           ready                           none
================  ==============================  ==================================================================

Then numbers: too few nodes, and new ones are launched; too many, and those that are missed least are drained. What was
given up is replaced, but only so often an hour: a mistake in a configuration must not launch machines without end. A
machine that must not be here (no longer named by the configuration) is drained and terminated; one of another fleet never
comes into this module. Names are never used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from coordinator.fleet.ports import Refused, Wanted
from coordinator.fleet.records import Machine, NodeRecord, Role

SETTLE_S = 90.0  # for a launched machine to be shown by an API that is eventually consistent
STOPPING_S = 900.0  # EC2 gives a stopping instance a few minutes; one that hangs there for longer does not come back
AN_HOUR_S = 3600.0
LEAST_REPLACEMENTS = 2  # an hour, even of a fleet of one


class Launch(msgspec.Struct, frozen=True):
    """Have machines made, under names that nobody has had."""

    wanted: tuple[Wanted, ...]


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


class GiveUp(msgspec.Struct, frozen=True):
    """The same for one that could not be set up; the reason is in its record, or here."""

    node: str
    why: str = ""


class Forget(msgspec.Struct, frozen=True):
    """A machine is gone: its record ends."""

    node: str
    why: str = ""


Action: TypeAlias = Launch | SetUp | Restart | Update | Accept | Start | Drain | Terminate | GiveUp | Forget


class Desired(msgspec.Struct, frozen=True):
    """What there should be."""

    n_workers: int
    release: str
    settings: dict[Role, str] = {}
    """Digest of what nodes of a role are told; a role that is not here may have any."""
    has_coordinator: bool = False
    """A coordinator on a node of its own."""
    hosts: tuple[str, ...] | None = None
    """Ids of the machines that shall be workers; None: machines are launched and terminated."""
    coordinator_host: str = ""
    cap: int = 0
    """Most machines at any time, whatever they are for; 0: none."""
    is_update: bool = False
    """Whether nodes of another release or with other settings are updated."""
    attempts: int = 2
    boot_s: float = 300.0
    replace_after_s: float = 180.0


class Observed(msgspec.Struct, frozen=True):
    """What there is, as far as it is known."""

    machines: tuple[Machine, ...] = ()
    records: tuple[NodeRecord, ...] = ()
    """Those that ended lately included: how often machines were replaced is known from them."""
    heard: dict[str, float] = {}
    """When each node was last heard: a worker by the leader, a coordinator by its beacon."""
    held: dict[str, int] = {}
    """Jobs that each worker holds."""
    versions: dict[str, str] = {}
    """What each node that is heard says it runs."""
    led_since: float | None = None
    """Since when somebody listens to workers; None: nobody does, and silence means nothing."""
    next_node: int = 1
    """No name from ``n<next_node>`` on has ever been used."""
    busy: frozenset[str] = frozenset()
    """Nodes with an action under way."""


class Node(msgspec.Struct, frozen=True):
    """A node: its machine, its record, or both."""

    name: str
    role: Role
    machine: Machine | None
    record: NodeRecord | None

    @property
    def state(self) -> str:
        """Of the machine; ``none`` when there is none, or not yet."""
        return "none" if self.machine is None else self.machine.state

    @property
    def is_live(self) -> bool:
        """Whether there is a machine, in whatever state, or may be one any moment."""
        return self.state not in {"none", "gone"}

    @property
    def is_leaving(self) -> bool:
        return self.record is not None and self.record.state == "leaving"


def nodes_of(observed: Observed) -> list[Node]:
    """All nodes that have a machine or a record that has not ended, by number."""
    machines = {machine.node: machine for machine in sorted(observed.machines, key=lambda m: m.state != "gone")}
    records = {record.name: record for record in observed.records}
    nodes = []
    for name in sorted(machines.keys() | records.keys(), key=number_of):
        machine, record = machines.get(name), records.get(name)
        if record is not None and record.ended_at and (machine is None or machine.state in {"gone", "stopping"}):
            continue
        if record is None and machine is not None and machine.state == "gone":
            continue
        role: Role = machine.role if machine is not None else record.role if record is not None else "worker"
        nodes.append(Node(name, role, machine, record))
    return nodes


def number_of(name: str) -> tuple[int, str]:
    """Sorts n2 before n10, and names of another kind first."""
    digits = name.removeprefix("n")
    return (int(digits) if digits.isascii() and digits.isdigit() else 0, name)


def reconcile(desired: Desired, observed: Observed, now: float) -> list[Action]:
    """What to do next; [] when everything is as it should be, or has to be waited for."""
    nodes = nodes_of(observed)
    actions = [
        action
        for node in nodes
        if node.name not in observed.busy and (action := _about(node, desired, observed, now)) is not None
    ]
    actions += _leaving(nodes, desired, observed, now)
    actions += _launches(nodes, desired, observed, now)
    if desired.is_update and not actions and not observed.busy:
        actions += [Update(node.name) for node in outdated(desired, observed)[:1]]
    return actions


def is_wanted(node: Node, desired: Desired) -> bool:
    """Whether a node of this kind may be here at all; how many of them is another question."""
    host = node.machine.id if node.machine is not None else node.record.machine if node.record is not None else ""
    if node.role == "coordinator":
        return desired.has_coordinator and (desired.hosts is None or host == desired.coordinator_host)
    return desired.hosts is None or host in desired.hosts


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


def silent_since(node: Node, observed: Observed) -> float | None:
    """Since when a node that is up should have been heard and was not; None when that cannot be said."""
    if node.machine is None or node.record is None or observed.led_since is None:
        return None
    known = (observed.led_since, node.record.ready_at, node.machine.launched_at, observed.heard.get(node.name, 0.0))
    return max(known)


def _about(node: Node, desired: Desired, observed: Observed, now: float) -> Action | None:
    """The table above, for one node that nothing is being done about."""
    record = node.record
    if not node.is_live:
        return _without_machine(node, desired, now)
    if record is not None and (node.is_leaving or record.ended_at):
        return _on_its_way_out(node, observed, now)
    if not is_wanted(node, desired):
        return None  # ``_leaving`` drains it
    match node.state:
        case "starting" if _age_s(node, now) > desired.boot_s:
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


def _on_its_way_out(node: Node, observed: Observed, now: float) -> Action | None:
    record = node.record
    is_heard = _is_heard(node, observed, now)
    if node.state == "running" and is_heard and record is not None and not record.attempts and not record.ended_at:
        return Drain(node.name)
    return None if node.state == "stopping" else Terminate(node.name)


def _running(node: Node, desired: Desired, observed: Observed, now: float) -> Action | None:
    record = node.record
    if record is None or record.state == "launched":
        return SetUp(node.name)
    if record.state == "failed":
        if _is_heard(node, observed, now) and observed.versions.get(node.name) == desired.release:
            return Accept(node.name)
        if record.attempts < desired.attempts:
            return SetUp(node.name)
        return GiveUp(node.name) if desired.hosts is None else None
    since = silent_since(node, observed)
    if since is not None and now - since > desired.replace_after_s:
        return Restart(node.name)
    return None


HEARD_S = 30.0  # a worker that the leader lists was heard within coordinator.worker_silence


def _is_heard(node: Node, observed: Observed, now: float) -> bool:
    return now - observed.heard.get(node.name, float("-inf")) <= HEARD_S


def _age_s(node: Node, now: float) -> float:
    launched_at = node.machine.launched_at if node.machine is not None else 0.0
    if not launched_at and node.record is not None:
        launched_at = node.record.launched_at
    return now - launched_at if launched_at else 0.0
