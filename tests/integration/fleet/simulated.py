"""A world of machines for the code that looks after them: a provider, a transport, an installer and a leader, in memory but for
the store, which is real. Everything takes a few hundredths of a second, and goes wrong where a test says so.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from coordinator.fleet.files import FleetFiles
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.ports import Connection, Finished, PhaseEvent, Refused, Tell, Wanted, Watch
from coordinator.fleet.records import Belonging, Machine, NodeRecord, Price, Role
from coordinator.fleet.setup.bootstrap import StepFailed
from coordinator.runtime.leadership import Leader
from tilefleet import layout
from tilefleet.config import Config
from tilefleet.errors import NotAllowed, TilefleetError, Unreachable
from tilefleet.records import Control, WorkerView, to_json
from tilefleet.store import Store

TICK_S = 0.02


class World:
    """Machines, what runs on them, and the leader that hears it. ``faults``: by what and node, how often it still goes wrong."""

    def __init__(self, config: Config, store: Store, release: str = "1.0+new", *, is_hosts: bool = False) -> None:
        self.store = store
        self.machines: dict[str, Machine] = {}
        self.running: dict[str, str] = {}
        """By node: the version that its worker runs."""
        self.installed: dict[str, list[str]] = defaultdict(list)
        self.faults: dict[tuple[str, str], int] = {}
        self.is_led = True
        self.work_s = 0.0
        self.n_open = 0
        self.calls: list[tuple[str, str]] = []
        self.events: list[PhaseEvent] = []
        self.told: list[str] = []
        self.at_once = self.most_at_once = 0
        self.provider = SimulatedProvider(self, can_launch=not is_hosts)
        self.installer = SimulatedInstaller(self, release)
        self.fleet = Fleet(config, FleetFiles(config.fleet.name), store, self.provider, SimulatedTransport(self), self.installer)
        self._beats = 0

    def fails(self, what: str, node: str) -> bool:
        """Whether it goes wrong this time; ``*`` stands for any node."""
        for key in ((what, node), (what, "*")):
            if self.faults.get(key, 0) > 0:
                self.faults[key] -= 1
                return True
        return False

    def of(self, node: str) -> Machine:
        return next(machine for machine in self.machines.values() if machine.node == node and machine.state != "gone")

    def put(self, machine: Machine) -> None:
        self.machines[machine.id] = machine

    def lose(self, node: str) -> None:
        """Its machine is taken away."""
        self.put(replace(self.of(node), state="gone", reason="Server.SpotInstanceTermination"))
        self.running.pop(node, None)

    async def lead(self) -> None:
        """Write control objects, as a coordinator does."""
        await self.store.put_new(layout.leader(1), to_json(Leader.this_process()))
        while True:
            if self.is_led:
                await self.store.put(layout.control(1), to_json(self._control()))
            await asyncio.sleep(TICK_S)

    def _control(self) -> Control:
        self._beats += 1
        views = tuple(
            WorkerView(node, f"i{self._beats}", version, 1, 1, 1.0, 1.0, time.time(), 0)
            for node, version in sorted(self.running.items())
            if not self.faults.get(("hear", node))
        )
        return Control(1, time.time(), "test", "there:1", "1.0", (), self.n_open, views, self.work_s)

    def watch(self, event: PhaseEvent) -> None:
        self.events.append(event)

    def tell(self, text: str) -> None:
        self.told.append(text)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in many places
            await asyncio.sleep(TICK_S / 4)

    def phases(self, node: str, state: str = "done") -> list[str]:
        return [event.phase for event in self.events if event.node == node and event.state == state]


class SimulatedProvider:
    """Keeps the contract of ``Provider``. Instances are shown a moment after their launch, and start another moment later."""

    def __init__(self, world: World, *, can_launch: bool) -> None:
        self.world = world
        self.can_launch = can_launch
        self.capacity = 100

    async def prepare(self, tell: Tell) -> None:
        """Nothing is needed."""

    async def machines(self) -> list[Machine]:
        if self.world.fails("list", "*"):
            raise Unreachable("the provider does not answer")
        now = time.time()
        for machine in list(self.world.machines.values()):
            if (
                machine.state == "starting"
                and now - machine.launched_at > TICK_S
                and not self.world.faults.get(("start", machine.node))
            ):
                self.world.put(replace(machine, state="running", address="192.0.2.7"))
            elif machine.state == "stopping":
                self.world.put(replace(machine, state="gone"))
        return list(self.world.machines.values())

    async def launch(self, wanted: Sequence[Wanted]) -> tuple[list[Machine], list[Refused]]:
        await asyncio.sleep(TICK_S)
        made, refused = [], []
        for node, role in wanted:
            self.world.calls.append(("launch", node))
            known = [machine for machine in self.world.machines.values() if machine.node == node]
            n_live = sum(machine.state != "gone" for machine in self.world.machines.values())
            if known:
                made.append(known[0])
            elif n_live >= self.capacity or self.world.fails("launch", node):
                refused.append(Refused(node, "InsufficientInstanceCapacity in us-east-1a"))
            else:
                machine = Machine(f"i-{node}", node, "starting", role, kind="c7i.large", market="spot", launched_at=time.time())
                self.world.put(machine)
                made.append(machine)
        return made, refused

    async def terminate(self, machines: Sequence[Machine]) -> None:
        for machine in machines:
            self.world.calls.append(("terminate", machine.node))
            self.world.put(replace(machine, state="stopping"))
            self.world.running.pop(machine.node, None)

    async def stop(self, machines: Sequence[Machine]) -> None:
        for machine in machines:
            self.world.put(replace(machine, state="stopped"))
            self.world.running.pop(machine.node, None)

    async def start(self, machines: Sequence[Machine]) -> None:
        for machine in machines:
            self.world.put(replace(machine, state="starting", launched_at=time.time()))
            self.world.running[machine.node] = self.world.installed[machine.node][-1]

    async def host_keys(self, machine: Machine) -> tuple[str, ...]:
        return () if self.world.fails("host_keys", machine.node) else (f"ssh-ed25519 {machine.id}",)

    async def price(self, machine_kind: str = "", market: str = "") -> Price | None:
        return Price(machine_kind or "c7i.large", "spot", 0.5, "price list of the test") if self.can_launch else None

    async def belongings(self) -> list[Belonging]:
        return []

    async def remove(self, belongings: Sequence[Belonging], tell: Tell) -> None:
        """There is nothing."""

    async def close(self) -> None:
        """Nothing is held."""


class SimulatedTransport:
    """Reaches machines that run, and by SSH believes only their pinned keys."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def connect(self, machine: Machine, record: NodeRecord, *, deadline_s: float) -> Connection:
        await asyncio.sleep(TICK_S)
        is_known = self.world.fleet.config.nodes.transport == "ssm" or record.host_keys == (f"ssh-ed25519 {machine.id}",)
        if not is_known or self.world.fails("host key", machine.node):
            raise NotAllowed(f"{machine.address} shows another host key than the one that is pinned")
        if self.world.fails("reach", machine.node) or self.world.of(machine.node).state != "running":
            raise Unreachable(f"{machine.address} did not answer within {deadline_s:.0f} s: connection refused")
        return SimulatedConnection()


class SimulatedConnection:
    """A way to nowhere: what is done on nodes, the installer does."""

    async def run(
        self, script: str, *, deadline_s: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Finished:
        return Finished(0, "")

    async def upload(self, local: Path, remote: str, *, deadline_s: float) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is held."""


class SimulatedInstaller:
    """Keeps the contract of ``Installer``."""

    def __init__(self, world: World, release: str) -> None:
        self.world = world
        self.release = release
        self.digest = "s1"
        self.set_up_s = TICK_S

    def settings(self, role: Role) -> str:
        return f"{role}-{self.digest}"

    async def set_up(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        self.world.calls.append(("set up", record.name))
        self.world.at_once += 1
        self.world.most_at_once = max(self.world.most_at_once, self.world.at_once)
        try:
            await self._step(record, "packages", watch)
            self.world.installed[record.name].append(self.release)
            self.world.running[record.name] = self.release
        finally:
            self.world.at_once -= 1

    async def update(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        self.world.calls.append(("update", record.name))
        self.world.running.pop(record.name, None)
        await self._step(record, "switch", watch)
        self.world.installed[record.name].append(self.release)
        if not self.world.fails("start of the new version", record.name):
            self.world.running[record.name] = self.release

    async def roll_back(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        self.world.calls.append(("roll back", record.name))
        await self._step(record, "back", watch)
        self.world.running[record.name] = record.release

    async def drain(self, connection: Connection, record: NodeRecord) -> None:
        self.world.calls.append(("drain", record.name))
        if self.world.fails("drain", record.name):
            raise StepFailed(record.name, "drain", "workerd did not stop")
        self.world.running.pop(record.name, None)

    async def undo(self, connection: Connection, record: NodeRecord) -> None:
        self.world.calls.append(("undo", record.name))
        self.world.running.pop(record.name, None)
        del self.world.machines[record.machine]  # as its record ends, and the configuration does not name it

    async def last_lines(self, connection: Connection, record: NodeRecord) -> str:
        return "workerd: the store refused the credentials"

    async def _step(self, record: NodeRecord, step: str, watch: Watch) -> None:
        watch(PhaseEvent(record.name, step, "begun"))
        await asyncio.sleep(self.set_up_s)
        if self.world.fails(step, record.name):
            watch(PhaseEvent(record.name, step, "failed", self.set_up_s, "no space"))
            raise StepFailed(record.name, step, "pip: No space left on device", may_pass=True)
        watch(PhaseEvent(record.name, step, "done", self.set_up_s))


async def node_records(world: World) -> dict[str, NodeRecord]:
    return {record.name: record for record in await world.fleet.nodes.nodes()}


def raising(error: TilefleetError) -> Callable[..., None]:
    """A function that does nothing but raise."""

    def call(*_: object, **__: object) -> None:
        raise error

    return call
