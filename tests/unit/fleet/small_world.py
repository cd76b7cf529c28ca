"""A fleet's machines as a model: actions are carried out at once or fail by a draw, and time passes by the minute."""

from __future__ import annotations

from random import Random
from typing import Any

from msgspec.structs import replace

from coordinator.fleet.deciding.picture import Desired, Observed, number_of
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
    reconcile,
)
from coordinator.fleet.records import Machine, MachineState, NodeRecord, Role

MINUTE_S = 60.0


class SmallWorld:
    """Machines and records; ``trouble``: how probable it is that an action fails, or a machine is lost in a minute."""

    def __init__(self, observed: Observed, now: float, seed: int = 0, trouble: float = 0.0, cap: int = 0) -> None:
        self.machines = {machine.id: machine for machine in observed.machines}
        self.records = {record.name: record for record in observed.records}
        self.alive = {name for name in observed.heard if now - observed.heard[name] < MINUTE_S}
        self.versions = dict(observed.versions)
        self.led_since = observed.led_since
        self.now = now
        self.random = Random(seed)
        self.trouble = trouble
        self.cap = cap
        self.names_used = {*self.records, *(machine.node for machine in self.machines.values())}
        self.log: list[Action] = []

    def observe(self) -> Observed:
        """As ``observing.look`` would."""
        numbers = [number_of(name)[0] for name in self.names_used]
        return Observed(
            machines=tuple(self.machines.values()),
            records=tuple(self.records.values()),
            heard=dict.fromkeys(self.alive, self.now),
            versions={name: self.versions.get(name, "") for name in self.alive},
            led_since=self.led_since,
            next_node=max(numbers, default=0) + 1,
        )

    def pass_minute(self) -> None:
        """Machines start, stop, and now and then vanish."""
        self.now += MINUTE_S
        for machine in list(self.machines.values()):
            if machine.state == "starting":
                self._set(machine, "running", address="192.0.2.1")
            elif machine.state == "stopping":
                self._set(machine, "gone")
            if machine.state == "running" and self._goes_wrong():
                self._set(machine, "gone", reason="taken away")
                self.alive.discard(machine.node)

    def act(self, desired: Desired) -> list[Action]:
        """One round: what is decided, carried out."""
        actions = reconcile(desired, self.observe(), self.now)
        for action in actions:
            self.log.append(action)
            self._carry_out(action, desired)
        n_live = sum(machine.state != "gone" for machine in self.machines.values())
        launched = any(isinstance(action, Launch) for action in actions)
        assert not (self.cap and launched and n_live > self.cap), "launched above the cap"
        return actions

    def _goes_wrong(self) -> bool:
        return self.random.random() < self.trouble

    def _set(self, machine: Machine, state: MachineState, **changes: Any) -> None:
        self.machines[machine.id] = replace(machine, state=state, **changes)

    def _of(self, node: str) -> Machine:
        found = [machine for machine in self.machines.values() if machine.node == node and machine.state != "gone"]
        recorded = self.records[node].machine if node in self.records else ""
        return next((machine for machine in found if machine.id == recorded), found[0])

    def _record(self, node: str) -> NodeRecord:
        machine = self._of(node)
        return self.records.get(node, NodeRecord(node, machine.id, role=machine.role))

    def _carry_out(self, action: Action, desired: Desired) -> None:
        match action:
            case Launch(node, role):
                self._launch(node, role)
            case SetUp(node) | Restart(node) | Update(node):
                self._set_up(node, desired)
            case Accept(node):
                self.records[node] = replace(self._record(node), state="ready", attempts=0, ready_at=self.now)
            case Start(node):
                self._set(self._of(node), "starting", launched_at=self.now)
                self.alive.add(node)
            case _:
                self._end(action, desired)

    def _end(self, action: Action, desired: Desired) -> None:
        match action:
            case Drain(node):
                self.records[node] = replace(self._record(node), state="leaving", attempts=0)
                self.alive.discard(node)
            case Terminate(node, ""):
                self._terminate(self._of(node), desired)
            case Terminate(node, machine_id):
                assert self.records[node].machine != machine_id, "the duplicate goes, not the node"
                self._set(self.machines[machine_id], "stopping")
            case GiveUp(node, why):
                record = replace(self._record(node), state="failed", attempts=desired.attempts, failure=why)
                self.records[node] = record
                self._terminate(self._of(node), desired)
            case Forget(node):
                self.records[node] = replace(self.records[node], ended_at=self.now)

    def _launch(self, node: str, role: Role) -> None:
        assert node not in self.names_used or self.records[node].machine == "", f"{node} was used before"
        self.names_used.add(node)
        self.records[node] = NodeRecord(node, "", role=role)
        if not self._goes_wrong():
            machine = Machine(f"i-{node}", node, "starting", role, launched_at=self.now)
            self.machines[machine.id] = machine
            self.records[node] = NodeRecord(node, machine.id, role=role, launched_at=self.now)

    def _set_up(self, node: str, desired: Desired) -> None:
        machine = self._of(node)
        assert machine.state == "running"
        record = replace(self._record(node), machine=machine.id)
        if self._goes_wrong():
            self.records[node] = replace(record, state="failed", attempts=record.attempts + 1)
            return
        self.records[node] = replace(
            record, state="ready", attempts=0, ready_at=self.now, release=desired.release,
            settings=desired.settings.get(record.role, ""),
        )  # fmt: skip
        self.alive.add(node)
        self.versions[node] = desired.release

    def _terminate(self, machine: Machine, desired: Desired) -> None:
        self.alive.discard(machine.node)
        if desired.hosts is None:
            self._set(machine, "stopping")
            record = self.records.get(machine.node)
            if record is not None and record.state != "failed":
                self.records[machine.node] = replace(record, state="leaving")
        else:
            self.records[machine.node] = replace(self._record(machine.node), ended_at=self.now)
            del self.machines[machine.id]
