"""Actions under way: at most one about a node, as many nodes at once as there are.

The rules: a launch that is refused is tried again after a pause, by a command three times, by the keeper for ever; so is what
a provider refuses about one node; every other error is raised to whoever looks next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import NamedTuple

from msgspec.structs import replace

from coordinator.fleet.deciding.picture import Desired, Node, Observed, nodes_of
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
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.hands import Hands, needs_note
from coordinator.fleet.hearing import Hearing
from coordinator.fleet.observing import Ears
from coordinator.fleet.phases import NodeFailed
from coordinator.fleet.ports import PhaseEvent, Refused, Tell, Wanted, Watch
from coordinator.fleet.records import NodeRecord
from tilefleet.errors import DoesNotFit, Unreachable

COMMAND_TRIES = 3  # of a launch: capacity comes back within minutes or not at all
FIRST_PAUSE = 3  # looks
LONGEST_PAUSE_S = 600.0


class Failure(NamedTuple):
    """A node that did not become what it should."""

    node: str
    step: str
    sentence: str
    """What went wrong, with the node's own last lines."""
    is_replaced: bool = False


class Acting:
    """Begins actions and keeps what came of them."""

    def __init__(self, fleet: Fleet, desired: Desired, ears: Ears, watch: Watch, tell: Tell, *, is_patient: bool = False) -> None:
        self._fleet = fleet
        self._watch = watch
        self._tell = tell
        self._is_patient = is_patient
        hearing = Hearing(ears, fleet.poll_s)
        hearing.is_coordinator_coming = self._is_coordinator_coming
        self._hands = Hands(fleet, desired, hearing, watch, tell)
        self._tasks: dict[asyncio.Task[None], frozenset[str]] = {}
        self._roles: dict[str, str] = {}
        self._postponed: dict[str, float] = {}
        """By node: until when nothing is tried about it, because the provider refused."""
        self._n_refusals: dict[str, int] = {}
        self._errors: list[BaseException] = []
        self.failures: list[Failure] = []
        self.refused: dict[str, Refused] = {}
        self.troubles: dict[str, Failure] = {}
        """What the provider would not do about a node, such as switching it on."""
        self.rolled_back: list[str] = []

    @property
    def desired(self) -> Desired:
        """What is gone for; without updates once one did not come back."""
        return replace(self._hands.desired, is_update=False) if self.rolled_back else self._hands.desired

    @desired.setter
    def desired(self, desired: Desired) -> None:
        self._hands.desired = desired

    @property
    def busy(self) -> frozenset[str]:
        """Nodes that something is being done about."""
        return frozenset().union(*self._tasks.values())

    def is_going_on(self, observed: Observed) -> bool:
        """Whether something is left to do, now or after a pause."""
        return any(not self._is_hopeless(action) for action in reconcile(self.desired, observed, time.time()))

    def is_due(self, observed: Observed) -> bool:
        """Whether something is to be begun now."""
        is_noted = any(needs_note(node) for node in nodes_of(observed)) and self._fleet.provider.can_launch
        return bool(self._due(observed)) or is_noted

    def _due(self, observed: Observed) -> list[Action]:
        return [
            action
            for action in reconcile(self.desired, observed, time.time())
            if not self._is_hopeless(action) and self._postponed.get(action.node, 0.0) <= time.monotonic()
        ]

    async def begin(self, observed: Observed) -> None:
        """Begin what is to be done and not under way."""
        nodes = {node.name: node for node in nodes_of(observed)}
        self._roles |= {node.name: node.role for node in nodes.values()}
        for node in nodes.values():
            if node.name not in self.busy and needs_note(node):
                await self._hands.note_power(node)
        actions = self._due(observed)
        launches = [action for action in actions if isinstance(action, Launch)]
        if launches and (wanted := await self._claimed(launches, nodes)):
            self._start({action.node for action in wanted}, self._launch(wanted))
        for action in actions:
            if not isinstance(action, Launch):
                self._start({action.node}, self._about(action, nodes[action.node], observed))

    def _is_hopeless(self, action: Action) -> bool:
        return not self._is_patient and self._n_refusals.get(action.node, 0) >= COMMAND_TRIES

    def _start(self, names: set[str], work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except NodeFailed as failed:
                for name in names:
                    self.troubles[name] = Failure(name, failed.step, failed.sentence)
                    self._postpone(name)

        task = asyncio.create_task(guarded(), name=f"fleet-{'-'.join(sorted(names))}")
        self._tasks[task] = frozenset(names)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    def raise_failures(self) -> None:
        """Raises the first error that was nobody's in particular: of the store, of credentials, a bug."""
        if self._errors:
            first = self._errors[0]
            self._errors.clear()
            raise first

    async def pause(self, seconds: float) -> None:
        """Until something ends, but no longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(seconds)

    async def finish(self) -> None:
        """Until all that was begun has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self.raise_failures()

    async def cancel(self) -> None:
        """Cut off what is under way; what was done is written down."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- launches

    async def _claimed(self, launches: list[Launch], nodes: dict[str, Node]) -> list[Wanted]:
        """Those whose names are ours: claimed before, or now."""
        wanted = []
        for launch in launches:
            record = NodeRecord(launch.node, "", role=launch.role)
            if launch.node in nodes or await self._fleet.nodes.claim(record):
                wanted.append(Wanted(launch.node, launch.role))
                self._roles[launch.node] = launch.role
        return wanted

    async def _launch(self, wanted: list[Wanted]) -> None:
        began = time.monotonic()
        for each in wanted:
            self._watch(PhaseEvent(each.node, "launch", "begun"))
        try:
            machines, refused = await self._fleet.provider.launch(wanted)
        except (DoesNotFit, Unreachable) as error:  # nothing could be launched, now; what is there goes on
            machines, refused = [], [Refused(node, str(error)) for node, _ in wanted]
        for machine in machines:
            took_s = time.monotonic() - began
            record = await self._hands.recorded(Node(machine.node, machine.role, machine, None))
            await self._hands.save(replace(record, phases_s={"launch": round(took_s, 3)}))
            self._watch(PhaseEvent(machine.node, "launch", "done", took_s))
            self._succeeded(machine.node)
        for node, reason in refused:
            self._watch(PhaseEvent(node, "launch", "failed", time.monotonic() - began, reason))
            self.refused[node] = Refused(node, reason)
            self._postpone(node)

    def _postpone(self, node: str) -> None:
        """Try again later, each time after a longer pause."""
        n_refusals = self._n_refusals[node] = self._n_refusals.get(node, 0) + 1
        pause_s = FIRST_PAUSE * self._fleet.poll_s * 2 ** min(n_refusals - 1, 20)
        self._postponed[node] = time.monotonic() + min(LONGEST_PAUSE_S, pause_s)

    def _succeeded(self, node: str) -> None:
        self._n_refusals.pop(node, None)
        self.refused.pop(node, None)
        self.troubles.pop(node, None)

    # ---- nodes

    async def _about(self, action: Action, node: Node, observed: Observed) -> None:
        match action:
            case SetUp() | Restart():
                self._note(await self._hands.set_up(node))
            case Update():
                await self._update(node)
            case Accept():
                await self._hands.accept(node)
            case Start():
                await self._hands.start(node)
            case Drain():
                await self._hands.drain(node)
            case Terminate():
                await self._terminate(node, action.machine, observed)
            case GiveUp():
                await self._give_up(node, action.why)
            case Forget():
                await self._hands.forget(node, action.why)
            case _:
                raise TypeError(action)
        self._succeeded(node.name)

    def _note(self, record: NodeRecord) -> None:
        if record.state == "failed":
            left = self.desired.attempts - record.attempts
            again = "; it is tried again" if left > 0 else ""
            self._tell(f"{record.name}: {record.step}: {record.failure}{again}")

    async def _update(self, node: Node) -> None:
        record = await self._hands.update(node)
        if record.release != self.desired.release or record.state != "ready" or record.failure:
            self.rolled_back.append(record.name)
            self.failures.append(Failure(record.name, record.step, record.failure))

    async def _terminate(self, node: Node, machine: str, observed: Observed) -> None:
        if not machine:
            await self._hands.terminate(node)
            return
        await self._fleet.provider.terminate([found for found in observed.machines if found.id == machine])

    async def _give_up(self, node: Node, why: str) -> None:
        record = node.record
        step, sentence = (record.step, record.failure) if record is not None and not why else ("launch", why)
        self.failures.append(Failure(node.name, step, sentence, is_replaced=True))
        self._tell(f"{node.name}: given up, its machine is terminated")
        await self._hands.terminate(node, why or sentence)

    def _is_coordinator_coming(self) -> bool:
        return any(self._roles.get(name) == "coordinator" for names in self._tasks.values() for name in names)
