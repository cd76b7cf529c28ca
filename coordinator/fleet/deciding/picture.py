"""What a fleet should be and what it is, as ``reconcile`` and ``scaling`` see it. Pure.

A node is known by its machine, its record, or both; a machine without a record is one whose record is still to be written,
a record without a machine one that was claimed, launched a moment ago, or lost.
"""

from __future__ import annotations

import msgspec

from coordinator.fleet.records import Machine, NodeRecord, Role

HEARD_S = 30.0  # a few looks: what the leader lists now is heard, what it lists no more is not


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
    failures_since: float = 0.0
    """Failures before this do not count any more: a person has said ``up`` again since."""


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
    departed: dict[str, str] = {}
    """Nodes whose workers said that they leave as their machines are taken away, and why."""
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
    records = {record.name: record for record in observed.records}
    machines: dict[str, Machine] = {}
    for machine in sorted(observed.machines, key=lambda machine: machine.launched_at):
        if machine.node not in machines or _rank(machine, records) > _rank(machines[machine.node], records):
            machines[machine.node] = machine
    nodes = []
    for name in sorted(machines.keys() | records.keys(), key=number_of):
        known, record = machines.get(name), records.get(name)
        is_over = record is None or record.ended_at > 0
        if is_over and (known is None or known.state == "gone" or (record is not None and known.state == "stopping")):
            continue
        role: Role = known.role if known is not None else record.role if record is not None else "worker"
        nodes.append(Node(name, role, known, record))
    return nodes


def _rank(machine: Machine, records: dict[str, NodeRecord]) -> int:
    """Which of two machines under one name is the node: the one that lives and that the record names."""
    record = records.get(machine.node)
    return 2 * (machine.state != "gone") + (record is not None and record.machine == machine.id)


def number_of(name: str) -> tuple[int, str]:
    """Sorts n2 before n10, and names of another kind first."""
    digits = name.removeprefix("n")
    return (int(digits) if digits.isascii() and digits.isdigit() else 0, name)


def is_wanted(node: Node, desired: Desired) -> bool:
    """Whether a node of this kind may be here at all; how many of them is another question."""
    host = node.machine.id if node.machine is not None else node.record.machine if node.record is not None else ""
    if node.role == "coordinator":
        return desired.has_coordinator and (desired.hosts is None or host == desired.coordinator_host)
    return desired.hosts is None or host in desired.hosts


def is_heard(node: Node, observed: Observed, now: float) -> bool:
    """Whether the node's daemon shows that it lives."""
    return now - observed.heard.get(node.name, float("-inf")) <= HEARD_S


def is_taken(node: Node, desired: Desired, observed: Observed) -> bool:
    """Whether its worker has left, as its machine is taken away or soon may be: nothing is to come of it any more."""
    is_ready = node.record is not None and node.record.state == "ready"
    return desired.hosts is None and is_ready and node.state == "running" and node.name in observed.departed


def is_given_up(node: Node, desired: Desired) -> bool:
    """Whether the attempts at setting it up are used."""
    return node.record is not None and node.record.state == "failed" and node.record.attempts >= desired.attempts


def is_good(node: Node, desired: Desired) -> bool:
    """Whether it is a node that works, as far as its record says."""
    return node.state == "running" and node.record is not None and node.record.state == "ready" and is_wanted(node, desired)


def age_s(node: Node, now: float) -> float:
    """Since its machine was launched or last started; 0 where that is not known."""
    launched_at = node.machine.launched_at if node.machine is not None else 0.0
    if not launched_at and node.record is not None:
        launched_at = node.record.launched_at
    return now - launched_at if launched_at else 0.0
