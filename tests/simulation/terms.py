"""One term of leadership: the steps of ``coordinator.runtime`` around the real Scheduler.

A term that does not know yet that another leads goes on writing, with its own epoch; readers believe the highest.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from coordinator.core.commands import Bury, CleanUp, Command, SavePlan, SendJobs, WriteStatus
from coordinator.core.events import (
    Adopted,
    CancelAsked,
    CleanedUp,
    DeadLettered,
    Deafened,
    EffectFailed,
    Event,
    Heard,
    PlanSaved,
    QueueLost,
    SendFailed,
    Ticked,
)
from coordinator.core.plans import PARTS, Plan
from coordinator.core.stages import Stage
from coordinator.runtime.dead_letters import examined
from coordinator.runtime.effects import PATIENCE_S
from coordinator.runtime.journal import WITH_FACTS
from tests.simulation.processes import Process, Signal, Steps, persist
from tests.simulation.store import url_of
from tilefleet import layout
from tilefleet.errors import ErrorInfo, NotFound, TilefleetError
from tilefleet.facts import Facts
from tilefleet.messages import Cancel, Job, decode_client, decode_worker, encode
from tilefleet.queues import BATCH, Received
from tilefleet.records import OperationStatus

if TYPE_CHECKING:
    from tests.simulation.coordinators import SimCoordinator
    from tests.simulation.queues import SimQueue

POLL_S = 20.0
INBOX_S = 15.0
FOREVER_S = 3600.0


class Term(Process):
    """One term of leadership: ``Shell``, ``Effects``, ``Dispatcher``, ``Listeners`` and ``Journal`` in steps."""

    def __init__(self, host: SimCoordinator, epoch: int) -> None:
        world = host.world
        super().__init__(world.agenda, world.life(world.habits.coordinator_dies))
        self.lag_s, self.frozen_until = host.lag_s, host.frozen_until
        self.world = world
        self.host = host
        self.epoch = epoch
        self.scheduler = host.scheduler(world.settings, epoch)
        self.ended = Signal()
        self.adopting: set[str] = set()
        self.looked_at: dict[str, float] = {}
        """When what the store holds of an operation was read, last."""
        self._events: deque[Event] = deque()
        self._told, self._to_send = Signal(), Signal()
        self._effects: dict[str, deque[Command]] = {}
        self._jobs: list[Job] = []
        self._restored = float("-inf")

    def start(self) -> None:
        world = self.world
        loops = (
            self._drive(), self._dispatch(), self._beacon(), self._inbox(),
            self._listen(world.operations, self._client_message), self._listen(world.completions, self._worker_message),
            self._listen(world.completions, self._worker_message), self._listen(world.dead_jobs, self._dead_job),
        )  # fmt: skip
        for loop in loops:
            self.spawn(loop)

    def die(self) -> None:
        self.host.die()

    def step_down(self) -> None:
        self.host.end_term()
        self.ended.fire()

    def tell(self, event: Event) -> None:
        if isinstance(event, CleanedUp):
            self.adopting.discard(event.operation)
        self._events.append(event)
        self._told.fire()

    # ---- the scheduler's loop

    def _drive(self) -> Steps[None]:
        while True:
            if not self._events:
                wait_s = self.scheduler.next_deadline(self.clock()) - self.clock()
                if wait_s > 0:
                    yield (self._told, wait_s + 1e-6)  # beyond what rounding makes of a clock that lags
            self._handle(self._events.popleft() if self._events else Ticked())
            yield 0.0002

    def _handle(self, event: Event) -> None:
        now = self.clock()
        commands = self.world.invariants.watched(self, event, now)
        for command in commands:
            if isinstance(command, SendJobs):
                self._jobs += command.jobs
                self._to_send.fire()
            else:
                self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        operation = command.status.id if isinstance(command, WriteStatus) else command.operation  # type: ignore[union-attr]
        waiting = self._effects.get(operation)
        if waiting is None:
            self._effects[operation] = deque([command])
            self.spawn(self._work_off(operation))
        elif isinstance(command, WriteStatus) and waiting and isinstance(waiting[-1], WriteStatus):
            waiting[-1] = command
        else:
            waiting.append(command)

    def _work_off(self, operation: str) -> Steps[None]:
        waiting = self._effects[operation]
        while waiting:
            command = waiting.popleft()
            try:
                yield from self._do(operation, command)
            except TilefleetError as error:
                if not isinstance(command, WriteStatus):
                    self.tell(EffectFailed(operation, ErrorInfo.of(error)))
        del self._effects[operation]

    def _do(self, operation: str, command: Command) -> Steps[None]:
        match command:
            case SavePlan():
                saved: Plan = yield from self._patiently(lambda: self.save_plan(command), PATIENCE_S)
                self.tell(PlanSaved(operation, saved))
            case WriteStatus():
                patience_s = float("inf") if command.status.is_ended else PATIENCE_S
                if command.status.is_ended and (yield from self._patiently(self.is_overtaken, patience_s)):
                    return
                yield from self._patiently(lambda: self.write_status(command.status), patience_s)
            case CleanUp():
                yield from self._clean_up(command)
                self.tell(CleanedUp(operation))
            case Bury():
                return  # for people alone

    def _patiently(self, effect: Callable[[], Any], for_s: float) -> Steps[Any]:
        world = self.world
        return persist(lambda: world.store.call(effect), self.agenda, world.random, for_s)

    # ---- the journal

    def save_plan(self, command: SavePlan) -> Plan:
        store, url = self.world.store, url_of(layout.plan(command.operation, command.plan.part))
        store.put_new(url, command.plan)
        saved: Plan = store.get(url)
        return saved

    def write_status(self, status: OperationStatus) -> None:
        self.world.store.put(url_of(layout.status(status.id, self.epoch)), status)
        self.world.invariants.status_written(status)

    def is_overtaken(self) -> bool:
        return self.world.epoch > self.epoch

    def _clean_up(self, command: CleanUp) -> Steps[None]:
        """In steps as the journal has them: another may take the lead between any two."""
        store, operation, forever = self.world.store, command.operation, float("inf")
        if (yield from self._patiently(self.is_overtaken, forever)):
            return
        self.world.invariants.cleaning(command)
        prefixes = [layout.parts(operation), layout.partial(operation)]
        prefixes += [f"{layout.operation(operation)}/{name}" for name in ("facts", "input", "result")]
        if not command.keeps_result:
            prefixes += [layout.staging(operation), layout.result(operation)]
        for url in (*map(url_of, prefixes), *command.urls):
            yield from self._patiently(lambda url=url: store.delete_prefix(url), forever)  # type: ignore[misc]
        yield from self._patiently(lambda: self.world.close(operation), forever)

    def _load(self, operation: str) -> Steps[Adopted | None]:
        store = self.world.store
        self.looked_at[operation] = self.agenda.now

        def plans() -> dict[Any, Plan]:
            found = ((part, store.get(url_of(layout.plan(operation, part)))) for part in PARTS)
            return {part: plan for part, plan in found if plan is not None}

        record = yield from store.call(lambda: store.get(url_of(layout.record(operation))))
        if record is None:
            return None
        saved = yield from store.call(plans)
        latest = next((saved[part] for part in reversed(PARTS) if part in saved), None)
        done: dict[str, tuple[int, ...]] = {}
        facts: dict[str, dict[int, Facts]] = {}
        for stage in latest.stages if latest is not None else ():
            done[stage.name] = yield from store.call(lambda stage=stage: self.done(stage))  # type: ignore[misc]
        for stage in latest.stages if latest is not None else ():
            if isinstance(stage, WITH_FACTS):
                facts[stage.name] = yield from store.call(lambda stage=stage: self._facts(stage, done[stage.name]))  # type: ignore[misc]
        status = yield from store.call(lambda: self.world.believed(operation))
        is_cancelled = yield from store.call(lambda: url_of(layout.cancel(operation)) in store.objects)
        return Adopted(record, saved, done, facts, status, is_cancelled)

    def done(self, stage: Stage) -> tuple[int, ...]:
        """``Journal._done``: jobs all of whose output objects are listed."""
        present: Counter[int] = Counter()
        start = len(stage.output_url) + 1
        for url in self.world.store.below(stage.output_url):
            index = stage.job_of_key(url[start:])
            if index is not None:
                present[index] += 1
        return tuple(index for index, n_keys in present.items() if index < stage.n_jobs and n_keys >= stage.n_keys(index))

    def _facts(self, stage: Stage, done: Sequence[int]) -> dict[int, Facts]:
        found = {index: self.world.store.get(layout.indexed(stage.output_url, index)) for index in done}
        if None in found.values():
            raise NotFound("a fact was removed meanwhile")
        return found

    # ---- ears

    def _inbox(self) -> Steps[None]:
        store, mark = self.world.store, url_of(layout.OPEN)
        while True:
            try:
                opened = yield from store.call(lambda: sorted(url.rsplit("/", 1)[-1] for url in store.below(mark)))
                for operation in opened:
                    yield from self._look_at(operation)
            except TilefleetError:
                pass
            yield INBOX_S

    def _look_at(self, operation: str) -> Steps[None]:
        try:
            yield from self._adopt(operation)
        except TilefleetError:
            return

    def _adopt(self, operation: str) -> Steps[None]:
        store = self.world.store
        if operation in self.adopting:
            if (yield from store.call(lambda: url_of(layout.cancel(operation)) in store.objects)):
                self.tell(CancelAsked(operation))
            return
        self.adopting.add(operation)
        adopted = None
        try:
            adopted = yield from self._load(operation)
        finally:
            if adopted is None:
                self.adopting.discard(operation)
        if adopted is not None:
            self.tell(adopted)

    def _listen(self, queue: SimQueue, take: Callable[[Received], Steps[None]]) -> Steps[None]:
        while True:
            try:
                received = yield from queue.receive(10, POLL_S)
                for message in received:
                    yield from take(message)
                if received:
                    yield from queue.delete([message.handle for message in received])
            except NotFound:
                yield from self._restore()
            except TilefleetError:
                if queue is self.world.completions:
                    self.tell(Deafened())
                yield 0.2

    def _client_message(self, message: Received) -> Steps[None]:
        said = decode_client(message.body)
        if isinstance(said, Cancel) and said.operation in self.adopting:
            self.tell(CancelAsked(said.operation))
        else:
            yield from self._adopt(said.operation)

    def _worker_message(self, message: Received) -> Steps[None]:
        self.tell(Heard(decode_worker(message.body)))
        yield from ()

    def _dead_job(self, message: Received) -> Steps[None]:
        _, job = examined(message.body, self.world.settings.fleet, "dead", 0.0)
        yield 0.01
        if job is not None:
            self.tell(DeadLettered(job))

    # ---- queues and beacon

    def _dispatch(self) -> Steps[None]:
        while True:
            if not self._jobs:
                yield (self._to_send, FOREVER_S)
                continue
            batch, self._jobs = self._jobs[:BATCH], self._jobs[BATCH:]
            try:
                yield from self.world.jobs.send([encode(job) for job in batch])
            except TilefleetError as error:
                self.tell(SendFailed(tuple(batch)))
                if isinstance(error, NotFound):
                    yield from self._restore()
                yield 0.1

    def _restore(self) -> Steps[None]:
        if self.clock() - self._restored < 1.0:
            yield 0.1
            return
        yield 0.2
        self.world.make_queues()
        self._restored = self.clock()
        self.tell(QueueLost())

    def _beacon(self) -> Steps[None]:
        world, store = self.world, self.world.store
        while True:
            try:
                if (yield from store.call(self.is_overtaken)):
                    self.step_down()
                    return
                control = self.scheduler.control(self.clock(), self.host.name, "0")
                world.ledger.called_off.update(control.cancelled)
                yield from store.call(lambda control=control: store.put(url_of(layout.control(self.epoch)), control))  # type: ignore[misc]
            except TilefleetError:
                pass
            yield world.settings.beacon_s
