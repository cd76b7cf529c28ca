"""The asyncio shell around the scheduler: events are queued to it, its commands are carried out, and time is told to it.

One TaskGroup owns every task. The shell ends when it is told to stop, or when another coordinator has taken the lead.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from coordinator.core.commands import Command, SendJobs
from coordinator.core.events import CleanedUp, Deafened, Event, QueueLost, Ticked
from coordinator.core.scheduler import Scheduler
from coordinator.core.settings import SchedulerSettings
from coordinator.runtime.dead_letters import DeadLetters
from coordinator.runtime.dispatch import Dispatcher
from coordinator.runtime.effects import Effects
from coordinator.runtime.journal import Journal
from coordinator.runtime.leadership import Leader, newest_epoch, resign
from coordinator.runtime.listeners import Listeners
from coordinator.runtime.retention import Retention
from tilefleet import layout
from tilefleet.backoff import Backoff, persist
from tilefleet.config import Config
from tilefleet.credentials import outlast
from tilefleet.errors import TilefleetError
from tilefleet.heard import note_heard
from tilefleet.records import Control, to_json
from tilefleet.sd_notify import notify
from tilefleet.sqs import SqsQueues
from tilefleet.store import Store, Stores
from tilefleet.version import __version__

log = structlog.get_logger()

EVENTS_AT_ONCE = 200  # are decided on together; then the loop breathes
RESTORE_PAUSE_S = 5.0


class _Ended(Exception):
    """This term of leadership is over."""


class Shell:
    """One term of leadership."""

    def __init__(
        self,
        config: Config,
        store: Store,
        stores: Stores,
        queues: SqsQueues,
        epoch: int,
        lines: asyncio.StreamReader | None = None,
    ) -> None:
        """``lines``: where clients' messages come beside the queue."""
        self._config = config
        self._store = store
        self._queues = queues
        self._epoch = epoch
        self._lines = lines
        self._leader = Leader.this_process().name
        self._journal = Journal(store, stores, epoch)
        self._dead = DeadLetters(store, config.fleet.name)
        wall_offset = time.time() - time.monotonic()
        self.scheduler = Scheduler(settings_of(config), epoch, wall_offset)
        self._retention = Retention(store, config.fleet.keep_results.s)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._restoring = asyncio.Lock()
        self._restored = float("-inf")

    async def run(self, stopping: asyncio.Event) -> bool:
        """Lead until told to stop; False when somebody else took the lead meanwhile."""
        try:
            async with asyncio.TaskGroup() as tasks:
                effects = Effects(self._journal, self._dead, tasks, self.tell)
                await self._start(tasks, effects, stopping)
                await stopping.wait()
                is_written = await effects.settle(self._config.coordinator.drain.s)
                log.info("drained", is_written=is_written)
                raise _Ended  # cancels the tasks; what was not written is written by whoever comes next
        except* _Ended:
            pass
        return stopping.is_set()

    async def _start(self, tasks: asyncio.TaskGroup, effects: Effects, stopping: asyncio.Event) -> None:
        dispatcher = Dispatcher(self._queues.jobs, self.tell, self._restore)
        fleet = self._config.fleet.name
        self._ears = Listeners(self._queues, self._journal, fleet, self.tell, self._restore, stopping, set(), self._dead)
        inbox_s = self._config.coordinator.inbox.s
        for name, loop in (
            ("scheduler", self._drive(dispatcher, effects)), ("dispatcher", dispatcher.run()), ("beacon", self._beacon()),
            ("operations", self._ears.operations()), ("completions", self._ears.completions()),
            ("completions-2", self._ears.completions()), ("inbox", self._ears.inbox(inbox_s)),
            ("dead-jobs", self._ears.dead_jobs()), ("other-dead", self._ears.other_dead()), ("retention", self._retention.run()),
        ):  # fmt: skip
            tasks.create_task(loop, name=name)
        if self._lines is not None:
            tasks.create_task(self._ears.lines(self._lines), name="lines")

    def tell(self, event: Event) -> None:
        """Queue an event for the scheduler."""
        if isinstance(event, CleanedUp):
            self._ears.adopting.discard(event.operation)
        self._events.put_nowait(event)

    def reload(self, config: Config) -> None:
        """Take over what may change while running: how long results are kept."""
        self._config = config
        self._retention.keep_s = config.fleet.keep_results.s

    async def resign(self) -> None:
        """Leave the lead to whoever comes next, at once."""
        try:
            await resign(self._store, self._control())
        except (TilefleetError, TimeoutError) as error:
            log.warning("resign_failed", error=str(error) or "the store did not answer")

    # ---- the scheduler's loop

    async def _drive(self, dispatcher: Dispatcher, effects: Effects) -> None:
        while True:
            events = [await self._next_event()]
            while len(events) < EVENTS_AT_ONCE and not self._events.empty():
                events.append(self._events.get_nowait())
            self._carry_out(events, dispatcher, effects)
            if len(events) == EVENTS_AT_ONCE:
                await asyncio.sleep(0)

    async def _next_event(self) -> Event:
        now = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self.scheduler.next_deadline(now) - now)):
                return await self._events.get()
        except TimeoutError:
            return Ticked()

    def _carry_out(self, events: list[Event], dispatcher: Dispatcher, effects: Effects) -> None:
        command: Command
        for command in self.scheduler.handle_all(events, time.monotonic()):
            if isinstance(command, SendJobs):
                dispatcher.send(command.jobs)
            else:
                effects.carry_out(command)

    # ---- beacon and queues

    async def _beacon(self) -> None:
        while True:
            try:
                if await newest_epoch(self._store) > self._epoch:
                    log.warning("stepped_down", epoch=self._epoch)
                    raise _Ended
                await self._store.put(layout.control(self._epoch), to_json(self._control()))
                note_heard()
            except TilefleetError as error:
                log.warning("beacon_failed", error=str(error))
            self._say_status()
            await asyncio.sleep(self._config.coordinator.beacon.s)

    def _control(self) -> Control:
        return self.scheduler.control(time.monotonic(), self._leader, __version__)

    def _say_status(self) -> None:
        scheduler = self.scheduler
        notify(f"STATUS=leading, epoch {self._epoch}: {len(scheduler.workers)} workers, {len(scheduler.operations)} operations")

    async def _restore(self) -> None:
        """Make lost queues again, and have their jobs sent again."""
        async with self._restoring:
            if time.monotonic() - self._restored < 1.0:
                return
            try:
                await outlast(self._make_queues, check=lambda: self.tell(Deafened()), denied_for_s=0)
            except TilefleetError as error:  # no permission: whoever may can make them, and nothing here need end for it
                log.error("queues_not_restored", error=str(error))
                await asyncio.sleep(RESTORE_PAUSE_S)
                return
            self._restored = time.monotonic()
            log.warning("queues_restored")
            self.tell(QueueLost())

    async def _make_queues(self) -> None:
        await persist(self._queues.ensure, for_s=float("inf"), backoff=Backoff(0.1, 5.0))


def settings_of(config: Config) -> SchedulerSettings:
    """The scheduler's share of the configuration."""
    coordinator = config.coordinator
    return SchedulerSettings(
        fleet=config.fleet.name, store_url=config.store.url, jobs_per_worker=coordinator.jobs_per_worker,
        job_target_s=coordinator.job_target.s, worker_silence_s=coordinator.worker_silence.s,
        no_worker_timeout_s=coordinator.no_worker_timeout.s, max_attempts=coordinator.max_attempts,
        lease_s=config.queues.lease.s, keep_results_s=config.fleet.keep_results.s, beacon_s=coordinator.beacon.s,
        heartbeat_s=config.worker.heartbeat.s,
    )  # fmt: skip
