"""The asyncio shell of a worker: poll, run, report; and at the end, drain.

The rules: take only what there is a free slot for; renew every lease from receipt until the message is deleted; never drop
a poll that is under way; on the way out stop polling first and stop renewing last.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

from tilefleet.backoff import Backoff
from tilefleet.config import Config
from tilefleet.errors import BadInput, TilefleetError
from tilefleet.messages import Job, WorkerHello, decode_job
from tilefleet.queues import Received
from tilefleet.reading import Reader
from tilefleet.sd_notify import READY, STOPPING, WATCHDOG, notify, watchdog_interval_s
from tilefleet.sqs import SqsQueues
from workerd import measure, spot
from workerd.attempt import Failure, Verdict, attempt, name_of
from workerd.budget import Budget
from workerd.context import Context, Surroundings
from workerd.control import FRESH_S, ControlWatch
from workerd.leases import LeaseKeeper
from workerd.outbox import Letter, Outbox
from workerd.rejection import reject
from workerd.roster import Roster, Speeds

log = structlog.get_logger()

SLOTS = 2  # one job computes, one fetches
UNREPORTED = 20  # completions that may wait for a queue that is away before no more jobs are taken
POLL_S = 2.0  # of a long poll: a drain waits for it; 1.3 million polls a month cost half a dollar
PREFETCH_PAUSE_S = 0.05  # before a job beside one that runs is asked for, so that an idle worker's waiting poll wins
BYE_S = 3.0  # for the last word
SPARES_S = 300.0  # after a job's end its buffers are kept for another: whoever tries things out comes back within minutes
FLUSH_S = 10.0  # for the last completions on the way out


class Worker:
    """One workerd. ``run`` ends after ``stop`` was called and everything in hand was finished or given back."""

    def __init__(
        self, config: Config, queues: SqsQueues, hello: WorkerHello, budget: Budget, around: Surroundings, watch: ControlWatch,
        measured: Callable[[], Awaitable[Speeds]],
    ) -> None:  # fmt: skip
        self._config = config
        self._queues = queues
        self._budget = budget
        self._watch = watch
        self._around = around._replace(is_cancelled=watch.is_cancelled)
        self._measured = measured
        self._roster = Roster(hello)
        self._leases = LeaseKeeper(queues.jobs, config.queues.lease.s)
        self._outbox = Outbox(queues.completions, queues.jobs, self._leases.book)
        self._seniority = itertools.count()
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = asyncio.Event()
        self._deadline = float("inf")
        """Of the drain, by the loop's clock."""
        self._hurried = asyncio.Event()
        self._reason = ""
        self._busy_at = 0.0
        self._taken = asyncio.Event()
        self._is_ready = False

    def stop(self, reason: str = "", within_s: float = float("inf")) -> None:
        """Begin to drain, within ``worker.drain`` or less. When it is said again, the shorter time counts."""
        within_s = min(within_s, self._config.worker.drain.s)
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + within_s)
        self._reason = self._reason or reason
        self._hurried.set()
        self._stopping.set()
        self._room.set()

    def reload(self, config: Config) -> None:
        """Take over what may change while running: heartbeat, drain, concurrency."""
        self._config = config
        concurrency = config.worker.concurrency
        reader = Reader(self._around.stores, concurrency=concurrency)
        self._around = self._around._replace(reader=reader, concurrency=concurrency)

    async def run(self) -> bool:
        """Work until ``stop``; True when nothing had to be given back."""
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(loop(), name=name)
                for name, loop in (
                    ("heartbeats", self._heartbeats), ("control", self._watch.run), ("watchdog", self._feed_watchdog),
                    ("outbox", self._outbox.run), ("leases", self._leases.run), ("measuring", self._measure_again),
                )
            ]  # fmt: skip
            if self._config.worker.metadata_url:
                loops.append(tasks.create_task(spot.watch(self._config.worker.metadata_url, self.stop), name="spot"))
            await self._poll(tasks)
            is_clean = await self._drain()
            for task in loops:
                task.cancel()
        return is_clean

    # ---- taking jobs

    async def _poll(self, tasks: asyncio.TaskGroup) -> None:
        backoff, wait_s = Backoff(most_s=5.0), 0.0  # the first poll returns at once: it shows that we are ready
        while not self._stopping.is_set():
            await self._until_wanted()
            began = asyncio.get_running_loop().time()
            try:
                received = await self._queues.jobs.receive(1, wait_s)
            except TilefleetError as error:
                log.warning("poll_failed", code=error.code, error=str(error))
                await self._sleep(backoff.next_s())
                continue
            backoff.reset()
            wait_s = POLL_S
            self._say_ready()
            for message in received:
                await self._take(message, began, tasks)
            if received and len(self._running) == 1:
                await asyncio.wait(self._running, timeout=PREFETCH_PAUSE_S)
            await self._room.wait()

    async def _until_wanted(self) -> None:
        """While the leader gives this process no work (its results were wrong, say), leave the queue to the others."""
        identity, said = self._roster.identity, ""
        while not self._stopping.is_set() and (why := self._watch.departed(identity.worker, identity.incarnation)):
            if why != said:
                said = why
                log.error("set_aside", reason=why)
            await self._sleep(FRESH_S)

    async def _take(self, message: Received, received_at: float, tasks: asyncio.TaskGroup) -> None:
        if self._stopping.is_set():
            await self._give_back([message.handle])
            return
        try:
            job = self._decoded(message)
        except BadInput as error:
            await reject(self._queues, message, str(error))
            return
        self._leases.add(message.handle, received_at)
        self._roster.take(message.handle, job)
        self._taken.set()
        task = tasks.create_task(self._do(message.handle, job), name=f"job-{job.operation}-{job.stage}-{job.index}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._look_for_room()

    def _decoded(self, message: Received) -> Job:
        job = decode_job(message.body)
        if job.fleet != self._roster.identity.fleet:
            raise BadInput(f"a job of the fleet {job.fleet!r} came to the fleet {self._roster.identity.fleet!r}")
        return job

    def _look_for_room(self) -> None:
        has_room = len(self._running) < SLOTS and len(self._roster) < SLOTS + UNREPORTED
        if has_room or self._stopping.is_set():
            self._room.set()
        else:
            self._room.clear()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    # ---- doing them

    async def _do(self, handle: str, job: Job) -> None:
        context = Context(job, self._around, next(self._seniority))
        log.debug("job_received", **name_of(job))
        await self._watch.refresh()
        self._say_status()
        verdict = await attempt(context, self._budget)
        body, instead = self._report(job, context, verdict), partial(self._roster.refused, job)
        self._outbox.post(Letter(handle, body, partial(self._forget, handle), instead))
        self._busy_at = asyncio.get_running_loop().time()
        task = asyncio.current_task()
        if task is not None:
            self._running.discard(task)
        self._look_for_room()

    def _report(self, job: Job, context: Context, verdict: Verdict) -> str | None:
        if verdict is None:
            return None
        try:
            if isinstance(verdict, Failure):
                return self._roster.failed(job, verdict.error, is_retryable=verdict.is_retryable)
            times = context.clock.times()
            self._roster.note_speed(job, times)
            return self._roster.done(job, verdict, times)
        except BadInput as error:  # too long to send
            return self._roster.refused(job, error)

    def _forget(self, handle: str) -> None:
        self._leases.remove(handle)
        self._roster.drop(handle)
        self._look_for_room()
        self._say_status()

    # ---- leaving

    async def _drain(self) -> bool:
        left_s = max(0.0, self._deadline - asyncio.get_running_loop().time())
        log.info("draining", jobs=len(self._running), deadline_s=round(left_s, 3), reason=self._reason)
        notify(STOPPING)
        unfinished = await self._finish()
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self._outbox.flush(FLUSH_S)
        left = self._roster.handles
        await self._give_back(left)
        with suppress(TimeoutError):  # queues that are gone must not hold a stop up: silence says the same, later
            async with asyncio.timeout(BYE_S):
                await self._tell(self._roster.bye(self._reason))
        log.info("drained", given_back=len(left))
        return not left

    async def _finish(self) -> set[asyncio.Task[None]]:
        """Wait for the jobs in hand; what is not finished at the deadline, which may come nearer meanwhile."""
        loop = asyncio.get_running_loop()
        while self._running and (left_s := self._deadline - loop.time()) > 0:
            self._hurried.clear()
            hurried = asyncio.create_task(self._hurried.wait(), name="hurried")
            await asyncio.wait({*self._running, hurried}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
        return set(self._running)

    async def _give_back(self, handles: list[str]) -> None:
        for handle in handles:
            self._forget(handle)
        try:
            await self._queues.jobs.extend(handles, 0)
        except TilefleetError as error:
            log.warning("give_back_failed", jobs=len(handles), error=str(error))

    # ---- being heard

    async def _heartbeats(self) -> None:
        await self._tell(self._roster.hello())
        while True:
            await self._news()
            self._rest()
            identity = self._roster.identity
            if self._roster.has_news or not self._watch.knows(identity.worker, identity.incarnation):
                await self._tell(self._roster.hello())  # another speed; or it was lost, or there is a new coordinator
            await self._tell(self._roster.heartbeat())

    def _rest(self) -> None:
        """Keep memory for a while after the last job only."""
        if not self._running and asyncio.get_running_loop().time() - self._busy_at > SPARES_S:
            self._budget.spares.keep_within(0)

    async def _news(self) -> None:
        """Wait for the next heartbeat: a quarter of the interval after a job was taken, so that the coordinator knows soon
        who holds it, and need not wait for its lease should we die."""
        interval_s = self._config.worker.heartbeat.s
        try:
            async with asyncio.timeout(interval_s):
                await self._taken.wait()
        except TimeoutError:
            return
        await asyncio.sleep(interval_s / 4)
        self._taken.clear()

    async def _tell(self, body: str) -> None:
        try:
            await self._queues.completions.send([body])
        except TilefleetError as error:
            log.warning("message_unsent", code=error.code, error=str(error))

    async def _measure_again(self) -> None:
        async for speeds in measure.while_idle(self._measured, lambda: not self._running):
            self._roster.note_measured(speeds)

    async def _feed_watchdog(self) -> None:
        interval_s = watchdog_interval_s()
        while interval_s is not None:
            notify(WATCHDOG)
            await asyncio.sleep(interval_s)

    def _say_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            notify(READY)
            log.info("worker_ready")

    def _say_status(self) -> None:
        names = [f"{job.operation} {job.stage}/{job.index}" for job in self._roster.jobs]
        notify(f"STATUS={'computing ' + ', '.join(names) if names else 'idle'}")
