"""A simulated workerd: the steps of ``workerd.pipeline``, around the real Roster, LeaseBook, ControlWatch and judgement.

The rules it keeps are workerd's: take only what there is a slot for; renew from receipt until the message is deleted;
check, commit, complete, delete, in this order; a completion that cannot be sent is kept as long as the lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation import work
from tests.simulation.processes import Process, Signal, Steps, persist
from tests.simulation.store import Tile, url_of
from tilefleet import layout
from tilefleet.errors import Cancelled, DoesNotFit, TilefleetError, Unreachable, WrongResult
from tilefleet.facts import Facts
from tilefleet.messages import Gemm, Job, JobTimes, Publish, WorkerHello, decode_job
from tilefleet.queues import BATCH, Received
from tilefleet.records import Control
from workerd.attempt import Failure, Verdict, judge
from workerd.context import STORE_PATIENCE_S, Outcome
from workerd.control import FRESH_S, ControlWatch
from workerd.leases import LeaseBook
from workerd.pipeline import FLUSH_S, PREFETCH_PAUSE_S, SLOTS, UNREPORTED
from workerd.roster import Roster

if TYPE_CHECKING:
    from tests.simulation.world import World

FOREVER_S = 3600.0
DRAIN_S = 20.0
HUNG_S = 120.0  # a job that takes longer is as good as one that hangs: the bound of the whole counts on the policy against that
POLL_S = 10.0  # instead of 2: nothing depends on it but how many steps an idle worker takes
LOOK_S = 6.0  # at the control object while nothing happens, instead of 2: for the same reason


class Letter(NamedTuple):
    """A completion on its way, as in ``workerd.outbox``."""

    handle: str
    body: str | None


class SimWorker(Process):
    """One incarnation of a worker."""

    lease_book: Callable[[float], LeaseBook] = LeaseBook

    def __init__(self, world: World, name: str, incarnation: str) -> None:
        super().__init__(world.agenda, world.life(world.habits.worker_dies))
        self.world = world
        self.name = name
        self.incarnation = incarnation
        self.is_slow = world.draws(world.habits.slow_worker)
        self.roster = Roster(
            WorkerHello(world.settings.fleet, name, incarnation, "0.1.0", 1, world.memory_bytes, 2e10, 1e9, SLOTS)
        )
        self.watch = ControlWatch(None)  # type: ignore[arg-type]  # read by our own steps
        self.leases = self.lease_book(world.settings.lease_s)
        self.is_stopping = False
        self._read_at = float("-inf")
        self._letters: list[Letter] = []
        self._n_running = 0
        self._has_taken = False
        self._room, self._posted, self._taken, self._leased, self._idle = (Signal() for _ in range(5))

    def start(self) -> None:
        for loop in (self._poll, self._heartbeats, self._control, self._outbox, self._renewals):
            self.spawn(loop())

    def die(self) -> None:
        if self.is_alive:
            super().die()
            self.world.worker_died(self)

    def stop(self) -> None:
        """SIGTERM."""
        self.is_stopping = True
        self._room.fire()
        self.spawn(self._drain())

    # ---- taking jobs

    def _poll(self) -> Steps[None]:
        while not self.is_stopping:
            began = self.clock()
            if self.watch.departed(self.roster.identity.worker, self.roster.identity.incarnation):
                yield LOOK_S
                continue
            try:
                received = yield from self.world.jobs.receive(1, POLL_S)
            except TilefleetError:
                yield 1.0
                continue
            for message in received:
                yield from self._take(message, began)
            if received:
                yield PREFETCH_PAUSE_S
            while not self._has_room() and not self.is_stopping:
                yield (self._room, FOREVER_S)

    def _has_room(self) -> bool:
        return self._n_running < SLOTS and len(self.roster) < SLOTS + UNREPORTED

    def _take(self, message: Received, received_at: float) -> Steps[None]:
        if self.is_stopping:
            yield from self._give_back([message.handle])
            return
        job = decode_job(message.body)
        self.leases.add(message.handle, received_at)
        self._leased.fire()
        self.roster.take(message.handle, job)
        self._has_taken = True
        self._taken.fire()
        self._n_running += 1
        self.spawn(self._do(message.handle, job))

    # ---- doing them

    def _do(self, handle: str, job: Job) -> Steps[None]:
        began = self.clock()
        yield from self._refresh()
        try:
            verdict: Verdict = yield from self._attempt(job)
        except (TilefleetError, MemoryError) as error:
            verdict = None if isinstance(error, Cancelled) else judge(error)
        self._letters.append(Letter(handle, self._report(job, verdict, self.clock() - began)))
        self._posted.fire()
        self._n_running -= 1
        self._room.fire()
        self._idle.fire()

    def _report(self, job: Job, verdict: Verdict, total_s: float) -> str | None:
        if verdict is None:
            return None
        if isinstance(verdict, Failure):
            if verdict.error.code != DoesNotFit.code:  # which is no accident, and passes when there is less of it at a time
                self.world.ledger.trouble(job)
            return self.roster.failed(job, verdict.error, is_retryable=verdict.is_retryable)
        return self.roster.done(job, verdict, JobTimes(total_s=total_s, computed_s=total_s / 2))

    def _checkpoint(self, job: Job) -> None:
        if self.watch.is_cancelled(job.operation):
            raise Cancelled(job.operation)

    def _attempt(self, job: Job) -> Steps[Outcome]:
        self._checkpoint(job)
        found: Outcome | None = yield from self._patiently(lambda: self._outcome_of_before(job))
        if found is not None:
            return found
        if self.world.ledger.hunger(job) > job.halvings:
            raise MemoryError("the job holds more than this worker has")
        self.world.ledger.needs(job)
        yield from self._compute(job)
        if self.world.draws(self.world.habits.fail):
            raise Unreachable("the store was away")
        is_right = not (isinstance(job.work, Gemm) and self.world.draws(self.world.habits.wrong))
        self.check(is_right=is_right)
        self._checkpoint(job)
        yield from self.commit(job, is_right=is_right)
        self.world.ledger.computed[job.key] += 1
        return (yield from self._facts(job))

    def check(self, *, is_right: bool) -> None:
        """The check inside the job. Raises WrongResult."""
        if not is_right:
            raise WrongResult("the product does not match its operands")

    def _outcome_of_before(self, job: Job) -> Outcome | None:
        """``workerd.jobs.dispatch``: a job whose outputs are there is done."""
        objects = self.world.store.objects
        urls = work.outputs(job)
        if not all(url in objects for url in urls):
            return None
        return Outcome(work.facts_of(job.work))

    def _compute(self, job: Job) -> Steps[None]:
        world, habits = self.world, self.world.habits
        duration_s = habits.job_s * (world.random.uniform(0.5, 1.5) if habits.is_steady else world.random.expovariate(1) + 0.02)
        duration_s *= habits.slowness if self.is_slow and not habits.is_steady else 1
        if world.draws(habits.stall):
            world.ledger.trouble(job)
            self.freeze(habits.stall_s, stops_clock=world.draws(0.3))
        if world.draws(habits.hang) and world.may_hang(self):
            world.ledger.trouble(job)
            duration_s = world.hang_s
        world.has_hung |= duration_s > HUNG_S
        yield duration_s

    def commit(self, job: Job, *, is_right: bool) -> Steps[None]:
        """Tiles one by one, first writer wins; nothing else may follow the commit but the facts."""
        if isinstance(job.work, Publish):
            yield from self._patiently(lambda: self._publish(job, job.work))
            return
        for url in work.outputs(job) if work.facts_of(job.work) is None else ():
            tile = Tile(self.incarnation, job.attempt, is_right)
            yield from self._patiently(lambda url=url, tile=tile: self.write(url, tile))  # type: ignore[misc]

    def write(self, url: str, tile: Tile) -> None:
        """One conditional PUT."""
        self.world.store.put_new(url, tile)

    def _publish(self, job: Job, publish: Any) -> None:
        """``workerd.jobs.publish``: the array's metadata, or the joined file; a staged directory gets its name."""
        store, out = self.world.store, publish.out
        if out.format != "zarr":
            store.put_new(out.url, Tile(self.incarnation, job.attempt))
        elif publish.staged_url is None:
            store.put_new(f"{out.url}/{work.METADATA}", job.operation)
        elif store.get(f"{out.url}/{work.METADATA}") != job.operation:
            store.put_new(f"{publish.staged_url}/{work.METADATA}", job.operation)
            store.rename(publish.staged_url, out.url)
        else:
            store.delete_prefix(publish.staged_url)

    def _facts(self, job: Job) -> Steps[Outcome]:
        facts = work.facts_of(job.work)
        if facts is None:
            return Outcome()
        url = work.outputs(job)[-1]

        def put() -> Facts:
            self.world.store.put_new(url, facts)
            if type(job.work).__name__ == "Gunzip":
                self.world.store.put_new(job.work.out.url, facts)  # type: ignore[union-attr]
            return facts

        return Outcome((yield from self._patiently(put)))

    def _patiently(self, effect: Callable[[], Any]) -> Steps[Any]:
        world = self.world
        return persist(lambda: world.store.call(effect), self.agenda, world.random, STORE_PATIENCE_S)

    # ---- completing them

    def _outbox(self) -> Steps[None]:
        delay_s = 0.1
        while True:
            batch = self._letters[:BATCH]
            if not batch:
                yield (self._posted, FOREVER_S)
                continue
            try:
                yield from self.complete(batch)
            except TilefleetError:
                self._forget([letter for letter in batch if self.leases.is_expired(letter.handle, self.clock())])
                yield delay_s
                delay_s = min(5.0, 2 * delay_s)
            else:
                delay_s = 0.1
                self._forget(batch)

    def complete(self, batch: list[Letter]) -> Steps[None]:
        """The completions first, then the deletes, of which a failure is no matter. Raises Unreachable."""
        bodies = [letter.body for letter in batch if letter.body is not None]
        if bodies:
            yield from self.world.completions.send(bodies)
        try:
            yield from self.world.jobs.delete([letter.handle for letter in batch])
        except TilefleetError:
            return

    def _forget(self, letters: list[Letter]) -> None:
        for letter in letters:
            self._letters.remove(letter)
            self.leases.remove(letter.handle)
            self.roster.drop(letter.handle)
        self._room.fire()
        self._idle.fire()

    def _renewals(self) -> Steps[None]:
        while True:
            due = self.leases.due(self.clock())
            for start in range(0, len(due), BATCH):
                batch, began = due[start : start + BATCH], self.clock()
                try:
                    yield from self.world.jobs.extend(batch, self.leases.lease_s)
                except TilefleetError:
                    continue
                self.leases.renewed([handle for handle in batch if handle in self.leases], began)
            following = self.leases.next_due()
            yield (self._leased, FOREVER_S if following is None else max(0.001, following - self.clock()))

    # ---- leaving

    def _drain(self) -> Steps[None]:
        deadline = self.clock() + DRAIN_S
        while self._n_running and self.clock() < deadline:
            yield (self._idle, deadline - self.clock())
        deadline = self.clock() + FLUSH_S
        while self._letters and self.clock() < deadline:
            yield (self._idle, deadline - self.clock())
        yield from self._give_back(self.roster.handles)
        yield from self._tell(self.roster.bye())
        self.die()

    def _give_back(self, handles: list[str]) -> Steps[None]:
        for handle in handles:
            self.leases.remove(handle)
            self.roster.drop(handle)
        try:
            yield from self.world.jobs.extend(handles, 0)
        except TilefleetError:
            return

    # ---- hearing and being heard

    def _heartbeats(self) -> Steps[None]:
        interval_s = self.world.settings.heartbeat_s
        yield from self._tell(self.roster.hello())
        while True:
            if not self._has_taken:
                yield (self._taken, interval_s)
            if self._has_taken:
                yield interval_s / 4
            self._has_taken = False
            if not self.watch.knows(self.name, self.incarnation):
                yield from self._tell(self.roster.hello())
            yield from self._tell(self.roster.heartbeat())

    def _tell(self, body: str) -> Steps[None]:
        try:
            yield from self.world.completions.send([body])
        except TilefleetError:
            return

    def _control(self) -> Steps[None]:
        while True:
            yield from self._refresh()
            yield LOOK_S

    def _refresh(self) -> Steps[None]:
        if self.clock() - self._read_at < FRESH_S:
            return
        self._read_at = self.clock()
        try:
            newest = yield from self.world.store.call(self.newest_control)
        except TilefleetError:
            return
        self.watch.control = newest or self.watch.control

    def newest_control(self) -> Control | None:
        """The highest epoch is believed."""
        objects = self.world.store.objects
        return next((control for epoch in range(self.world.epoch, 0, -1) if (control := objects.get(_control_url(epoch)))), None)


def _control_url(epoch: int) -> str:
    return url_of(layout.control(epoch))
