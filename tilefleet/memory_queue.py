"""The queues of a fleet in this process's memory, for tests of the shells.

The rule: the same contract as SQS (tests/conformance/test_queues.py), strict where SQS is lax: every send is seen at
once, and a handle is good only while it is the newest. Leases end by the clock that is passed in.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilefleet.errors import BadInput, NotFound
from tilefleet.messages import MAX_MESSAGE_BYTES
from tilefleet.queues import BATCH, Received

LOOK_S = 0.05  # how often a waiting poll looks at a clock that a test moves by hand


class _Message:
    def __init__(self, body: str) -> None:
        self.body = body
        self.receives = 0
        self.handle = ""
        self.hidden_until = float("-inf")


class MemoryQueue:
    """One standard queue; keeps the contract of ``tilefleet.queues.Queue``."""

    def __init__(
        self,
        name: str,
        *,
        lease_s: float = 60.0,
        max_receives: int = 5,
        dead: MemoryQueue | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.exists = True
        self._lease_s = lease_s
        self._max_receives = max_receives
        self._dead = dead
        self._clock = clock
        self._messages: list[_Message] = []
        self._handles = (f"{name}:{number}" for number in itertools.count())
        self._arrived = asyncio.Event()

    def __repr__(self) -> str:
        return f"MemoryQueue({self.name})"

    def lose(self) -> None:
        """Forget the queue and its messages, as a stand-in that crashed does."""
        self.exists = False
        self._messages.clear()

    async def send(self, bodies: Sequence[str]) -> None:
        """Send messages. Raises BadInput for one over 1 MiB, before any is sent."""
        self.must_exist()
        for body in bodies:
            if (n_bytes := len(body.encode())) > MAX_MESSAGE_BYTES:
                raise BadInput(f"a message of {n_bytes} bytes for the queue {self.name} is over the 1 MiB that SQS carries")
        self._messages += [_Message(body) for body in bodies]
        self._arrived.set()

    async def receive(self, max_messages: int, wait_s: float) -> list[Received]:
        """Up to ``max_messages`` (≤ 10); waits up to ``wait_s`` for the first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            self.must_exist()
            self._arrived.clear()
            taken = [self._deliver(message) for message in self._visible(min(max_messages, BATCH))]
            left_s = deadline - loop.time()
            if taken or left_s <= 0:
                return taken
            try:
                await asyncio.wait_for(self._arrived.wait(), min(left_s, LOOK_S))
            except TimeoutError:
                continue

    async def delete(self, handles: Sequence[str]) -> None:
        """Remove delivered messages; a handle that is too old is no error."""
        self.must_exist()
        self._messages = [message for message in self._messages if not message.handle or message.handle not in handles]

    async def extend(self, handles: Sequence[str], lease_s: float) -> None:
        """Hide delivered messages for ``lease_s`` from now; 0 gives them back at once."""
        self.must_exist()
        now = self._clock()
        for message in self._messages:
            if message.handle in handles and message.hidden_until > now:
                message.hidden_until = now + lease_s
        self._arrived.set()

    async def count(self) -> tuple[int, int]:
        """How many messages wait, and how many are in flight."""
        self.must_exist()
        in_flight = sum(message.hidden_until > self._clock() for message in self._messages)
        return len(self._messages) - in_flight, in_flight

    async def purge(self) -> None:
        """Remove every message."""
        self.must_exist()
        self._messages.clear()

    def _visible(self, at_most: int) -> Iterator[_Message]:
        now = self._clock()
        waiting = [message for message in self._messages if message.hidden_until <= now]
        if self._dead is not None:
            for message in [message for message in waiting if message.receives >= self._max_receives]:
                self._messages.remove(message)
                waiting.remove(message)
                self._dead.take_over(message)
        return itertools.islice(waiting, at_most)

    def take_over(self, message: _Message) -> None:
        """Hold a message that died in another queue; it keeps its count of receives, as at SQS."""
        self._messages.append(message)
        self._arrived.set()

    def _deliver(self, message: _Message) -> Received:
        message.receives += 1
        message.handle = next(self._handles)
        message.hidden_until = self._clock() + self._lease_s
        return Received(message.body, message.handle, message.receives)

    def must_exist(self) -> None:
        """Raises NotFound when the queue is lost."""
        if not self.exists:
            raise NotFound(f"the queue {self.name} does not exist")


class MemoryQueues:
    """The queues of one fleet, in memory; the face of ``SqsQueues``."""

    def __init__(
        self, fleet: str = "memory", *, lease_s: float = 60.0, max_receives: int = 5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        names = [f"{fleet}-{role}" for role in ("operations", "jobs", "completions")]
        self._dead = {name: MemoryQueue(f"{name}-dead", lease_s=lease_s, clock=clock) for name in names}
        self.operations, self.jobs, self.completions = (
            MemoryQueue(name, lease_s=lease_s, max_receives=max_receives, dead=self._dead[name], clock=clock) for name in names
        )

    def dead(self, queue: Any) -> MemoryQueue:
        """The dead-letter queue of one of these queues."""
        return self._dead[queue.name]

    async def __aenter__(self) -> MemoryQueues:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def ensure(self) -> None:
        """Bring back what was lost."""
        for queue in (self.operations, self.jobs, self.completions):
            queue.exists = True

    async def resolve(self) -> None:
        """Raises NotFound naming the queue that is absent."""
        for queue in (self.operations, self.jobs, self.completions):
            queue.must_exist()
