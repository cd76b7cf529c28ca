"""A simulated SQS queue: at least once, in any order, seen late, back after a delete, dead after too many receives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from tests.simulation.faults import Habits
from tests.simulation.processes import Agenda, Signal, Steps
from tilefleet.errors import NotFound, Unreachable
from tilefleet.queues import BATCH, Received

NEVER = float("inf")


class Message:
    """One message in the queue."""

    __slots__ = ("body", "deliveries", "number", "receives", "visible")

    def __init__(self, body: str, number: int, visible: float) -> None:
        self.body = body
        self.number = number
        self.visible = visible
        self.receives = 0
        self.deliveries = 0
        """As ``receives``, and those that the queue made twice."""


class SimQueue:
    """One standard queue, with the calls of ``tilefleet.queues.Queue`` as steps."""

    def __init__(
        self, agenda: Agenda, random: Random, habits: Habits, lease_s: float, max_receives: int = 0, dead: SimQueue | None = None
    ) -> None:
        self.habits = habits
        self.messages: dict[int, Message] = {}
        self.exists = True
        self._agenda = agenda
        self._random = random
        self._lease_s = lease_s
        self._max_receives = max_receives
        self._dead = dead
        self._number = 0
        self._arrived = Signal()
        self.on_enter: Callable[[str], None] = lambda _body: None
        self.on_delete: Callable[[str], None] = lambda _body: None

    # ---- calls

    def send(self, bodies: Sequence[str]) -> Steps[None]:
        """Raises Unreachable when nothing, some, or all of it got in."""
        for start in range(0, len(bodies), BATCH):
            batch = bodies[start : start + BATCH]
            yield self.habits.latency_s * self._random.random()
            self._must_exist()
            fails = self._random.random() < self.habits.queue_error
            n_in = self._random.randint(0, len(batch)) if fails else len(batch)
            for body in batch[:n_in]:
                self._enter(body)
            yield self.habits.latency_s * self._random.random()
            if fails:
                raise Unreachable("the queue did not take all messages")

    def receive(self, at_most: int, wait_s: float) -> Steps[list[Received]]:
        """A long poll. When its answer is lost, what it brings is hidden until the lease ends."""
        deadline = self._agenda.now + wait_s
        yield self.habits.latency_s * self._random.random()
        while True:
            self._must_exist()
            received = self._deliver(at_most)
            now = self._agenda.now
            if received or now >= deadline:
                break
            following = min((message.visible for message in self.messages.values()), default=NEVER)
            yield (self._arrived, max(0.001, min(deadline, following) - now))
        yield self.habits.latency_s * self._random.random()
        if self._random.random() < self.habits.queue_error:
            raise Unreachable("the queue did not answer")
        return received

    def delete(self, handles: Sequence[str]) -> Steps[None]:
        """An old handle deletes nothing."""
        yield self.habits.latency_s * self._random.random()
        self._must_exist()
        fails = self._random.random() < self.habits.queue_error
        for handle in handles if not fails or self._random.random() < 0.5 else ():
            self._delete(handle)
        yield self.habits.latency_s * self._random.random()
        if fails:
            raise Unreachable("the queue did not answer")

    def extend(self, handles: Sequence[str], lease_s: float) -> Steps[None]:
        """An old handle extends nothing."""
        yield self.habits.latency_s * self._random.random()
        self._must_exist()
        if self._random.random() < self.habits.queue_error:
            raise Unreachable("the queue did not answer")
        for handle in handles:
            message = self._message(handle)
            if message is not None and message.visible > self._agenda.now:
                message.visible = self._agenda.now + lease_s
        if lease_s == 0:
            self._arrived.fire()
        yield self.habits.latency_s * self._random.random()

    # ---- what happens to it

    def lose(self) -> None:
        """A stand-in that crashed: the queue and what was in it are gone until somebody makes it again."""
        self.exists = False
        self.messages.clear()
        self._arrived.fire()

    def ensure(self) -> None:
        self.exists = True

    def put_in(self, body: str) -> None:
        """As seen by no caller."""
        self._enter(body)

    def _enter(self, body: str) -> None:
        self.on_enter(body)
        habits, draw = self.habits, self._random.random
        if draw() < habits.lose_message:
            return
        for _ in range(2 if draw() < habits.duplicate else 1):
            self._number += 1
            delay_s = habits.delay_s * draw()
            self.messages[self._number] = Message(body, self._number, self._agenda.now + delay_s)
            self._agenda.at(delay_s, self._arrived.fire)

    def _deliver(self, at_most: int) -> list[Received]:
        now = self._agenda.now
        visible = [message for message in self.messages.values() if message.visible <= now]
        if len(visible) > 1:
            self._random.shuffle(visible)
        received: list[Received] = []
        for message in visible:
            if len(received) == at_most:
                break
            if self._dead is not None and message.receives >= self._max_receives:
                del self.messages[message.number]
                self._dead.put_in(message.body)
                continue
            message.deliveries += 1
            if self._random.random() >= self.habits.duplicate:  # else it stays visible: delivered twice
                message.receives += 1
                message.visible = now + self._lease_s
            received.append(Received(message.body, f"{message.number}/{message.deliveries}", message.receives))
        return received

    def _delete(self, handle: str) -> None:
        message = self._message(handle)
        if message is None:
            return
        self.on_delete(message.body)
        if self._random.random() < self.habits.undeleted:
            message.visible = self._agenda.now + self._random.uniform(0, self._lease_s)
        else:
            del self.messages[message.number]

    def _message(self, handle: str) -> Message | None:
        number, _, deliveries = handle.partition("/")
        message = self.messages.get(int(number))
        return message if message is not None and message.deliveries == int(deliveries) else None

    def _must_exist(self) -> None:
        if not self.exists:
            raise NotFound("the queue does not exist")
