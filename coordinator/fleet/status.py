"""A fleet at one moment, as ``fleet status`` shows it: pure, from what the provider, the records and the leader say.

The rule: it tells what is known, and says so where nothing is. A worker is up when the leader hears it; while nobody leads,
nobody knows. Clocks are not compared between machines: how long ago a worker was heard is told by the leader's clock alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from coordinator.fleet.deciding.picture import Node, Observed, nodes_of
from coordinator.fleet.money.costs import spent_usd
from coordinator.fleet.records import FleetRecord, Machine, NodeRecord, Role
from tilefleet.records import Control, WorkerView

ViewState = Literal[
    "up", "starting", "setting up", "silent", "unknown", "failed", "leaving", "stopping", "off", "lost", "not set up"
]
"""up: heard by the leader. starting: the machine boots. setting up: it is being made a node. silent: it runs and is not heard.
unknown: it runs, and there is no coordinator to hear it. off: switched off. lost: its machine is gone unasked."""

NEW_S = 120.0  # a machine that was just launched may not be listed yet: EC2 is eventually consistent


class Lead(msgspec.Struct, frozen=True):
    """The newest leader's word, and whether it still speaks."""

    control: Control
    is_alive: bool
    """Whether its beacon changes."""
    since: float = 0.0
    """When it took the lead."""


class NodeView(msgspec.Struct, frozen=True):
    """A node."""

    name: str
    state: ViewState
    sentence: str = ""
    """What is wrong, or happening, and what to do; empty where all is well."""
    role: Role = "worker"
    machine: str = ""
    address: str = ""
    kind: str = ""
    market: str = ""
    zone: str = ""
    version: str = ""
    """What its worker says it runs; else what was installed."""
    held: int | None = None
    """Jobs in its hands; None where nobody hears it."""
    operations: tuple[str, ...] = ()
    """Whose jobs they are."""
    heard_ago_s: float | None = None
    age_s: float | None = None
    """Since its machine was launched."""
    usd_per_hour: float = 0.0


class CoordinatorView(msgspec.Struct, frozen=True):
    """Who leads."""

    state: Literal["leads", "silent", "resigned", "none"]
    leader: str = ""
    """``host:pid``."""
    version: str = ""
    epoch: int = 0
    since: float = 0.0
    n_open: int | None = None
    """Operations that have not ended."""


class FleetPicture(msgspec.Struct, frozen=True):
    """The whole fleet."""

    nodes: tuple[NodeView, ...]
    coordinator: CoordinatorView
    spent_usd: float
    """Machines only, up to now."""
    usd_per_hour: float
    """Of the machines that run now."""
    has_unpriced: bool
    """Whether there are machines whose price is not known."""

    @property
    def n_up(self) -> int:
        return sum(node.state == "up" and node.role == "worker" for node in self.nodes)


def picture(
    machines: Iterable[Machine],
    records: Iterable[NodeRecord],
    lead: Lead | None,
    now: float,
    *,
    answers: Mapping[str, bool] | None = None,
    fleet: FleetRecord | None = None,
) -> FleetPicture:
    """``answers``: by node, whether its SSH port was seen to answer; ``fleet``: for the cost of what was forgotten."""
    records = list(records)
    nodes = nodes_of(Observed(machines=tuple(machines), records=tuple(records)))
    heard = {worker.name: worker for worker in lead.control.workers} if lead is not None and lead.is_alive else {}
    views = [_view(node, heard.get(node.name), lead, now, (answers or {}).get(node.name)) for node in nodes]
    running = [view for node, view in zip(nodes, views, strict=True) if node.state in _PAID]
    return FleetPicture(
        nodes=tuple(views),
        coordinator=_coordinator(lead),
        spent_usd=spent_usd(fleet, records, now),
        usd_per_hour=sum(view.usd_per_hour for view in running),
        has_unpriced=any(not view.usd_per_hour for view in running),
    )


_PAID = ("starting", "running", "stopping")


def _view(node: Node, worker: WorkerView | None, lead: Lead | None, now: float, answers: bool | None) -> NodeView:
    machine, record = node.machine, node.record
    state, sentence = _state(node, worker, lead, now, answers)
    launched_at = (machine.launched_at if machine else 0.0) or (record.launched_at if record else 0.0)
    return NodeView(
        name=node.name, state=state, sentence=sentence, role=node.role,
        machine=machine.id if machine else record.machine if record else "",
        address=machine.address if machine else "",
        kind=(machine.kind if machine else "") or (record.kind if record else ""),
        market=(machine.market if machine else "") or (record.market if record else ""),
        zone=machine.zone if machine else "",
        version=worker.version if worker else record.release if record else "",
        held=worker.held if worker else None, operations=_operations(worker) if worker else (),
        heard_ago_s=max(0.0, lead.control.at - worker.heard_at) if worker and lead else None,
        age_s=max(0.0, now - launched_at) if launched_at else None,
        usd_per_hour=record.usd_per_hour if record else 0.0,
    )  # fmt: skip


def _operations(worker: WorkerView) -> tuple[str, ...]:
    return tuple(dict.fromkeys(job.partition(" ")[0] for job in worker.jobs))


def _state(  # noqa: PLR0911  one line per state
    node: Node, worker: WorkerView | None, lead: Lead | None, now: float, answers: bool | None
) -> tuple[ViewState, str]:
    machine, record = node.machine, node.record
    if machine is None or machine.state == "gone":
        return _without_machine(machine, record, now)
    if machine.state in ("stopping", "stopped"):
        return ("stopping" if machine.state == "stopping" else "off"), machine.reason
    if record is not None and record.state == "leaving":
        return "leaving", "it finishes what it holds and takes nothing new"
    if record is not None and record.state == "failed":
        return "failed", failed_text(record)
    if machine.state == "starting":
        return "starting", ""
    if record is None:
        return "not set up", "its machine runs, and nobody has set it up; say 'tilefleet fleet up'"
    return _running(record, worker, lead, answers)


def _running(record: NodeRecord, worker: WorkerView | None, lead: Lead | None, answers: bool | None) -> tuple[ViewState, str]:
    if worker is not None:
        return "up", _version_text(worker, record)
    if record.stopped_at:
        return "off", "'fleet stop' stopped its daemon; 'tilefleet fleet start' starts it"
    if record.state == "launched":
        return "setting up", f"try {record.attempts + 1}; before: {failed_text(record)}" if record.failure else ""
    if lead is None or not lead.is_alive:
        return "unknown", "there is no coordinator that could hear it"
    if record.role == "coordinator":  # it says no hello: the beacon is its sign of life
        return "up", ""
    departed = lead.control.departed.get(record.name)
    return ("leaving", departed) if departed else ("silent", _silence_text(answers))


def failed_text(record: NodeRecord) -> str:
    """``packages: no space left on device``, perhaps with more of the node's own lines below."""
    return f"{record.step}: {record.failure}" if record.step else record.failure


def _without_machine(machine: Machine | None, record: NodeRecord | None, now: float) -> tuple[ViewState, str]:
    if record is not None and record.state == "leaving":
        return "leaving", "its machine is gone"
    if machine is None and record is not None and now - record.launched_at < NEW_S:
        return "starting", "its machine is not listed yet"
    why = f": {machine.reason}" if machine is not None and machine.reason else ""
    return "lost", f"its machine is gone{why}; the coordinator replaces it, or 'tilefleet fleet up' does"


def _version_text(worker: WorkerView, record: NodeRecord) -> str:
    if record.release and worker.version != record.release:
        return f"it runs {worker.version}, and was given {record.release}; say 'tilefleet fleet sync'"
    return ""


def _silence_text(answers: bool | None) -> str:
    if answers is None:
        return "the leader does not hear it: switched off, cut off, or its workerd is down"
    if answers:
        return "the machine answers and its workerd is not heard; see 'tilefleet fleet logs'"
    return "it does not answer: switched off or cut off from the network"


def _coordinator(lead: Lead | None) -> CoordinatorView:
    if lead is None:
        return CoordinatorView("none")
    control = lead.control
    state: Literal["leads", "silent", "resigned"] = "leads" if lead.is_alive else "silent" if control.leader else "resigned"
    return CoordinatorView(
        state, control.leader, control.version, control.epoch, lead.since, control.n_open if lead.is_alive else None
    )
