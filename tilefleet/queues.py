"""Queues: the port. ``tilefleet.sqs`` keeps it with SQS, ``tilefleet.memory_queue`` in memory, for tests of the shells.

The contract both keep (tests/conformance/): standard-queue semantics, at least once and in any order; a received message
is hidden until its lease ends, is renewed, returned or deleted; deletion needs the newest handle; after ``max_receives``
deliveries it moves to the dead-letter queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

BATCH = 10  # SQS limit of entries in a batch
REJECTED_BODY_BYTES = 200_000  # of a rejected message that are kept: JSON may escape each to six, 1 MiB is the limit


class Received(NamedTuple):
    """One delivery of a message."""

    body: str
    handle: str
    receives: int
    """How many times it was delivered, this one included."""


class Queue(Protocol):
    """One standard queue."""

    name: str

    async def send(self, bodies: Sequence[str]) -> None:
        """Send messages, in batches; entries that fail alone are sent again. Raises Unreachable when some stay unsent."""
        ...

    async def receive(self, max_messages: int, wait_s: float) -> list[Received]:
        """Up to ``max_messages`` (≤ 10); waits up to ``wait_s`` (≤ 20) for the first. Never cancel it but at exit."""
        ...

    async def delete(self, handles: Sequence[str]) -> None:
        """Remove delivered messages. A handle that is too old is no error: the message comes back."""
        ...

    async def extend(self, handles: Sequence[str], lease_s: float) -> None:
        """Hide delivered messages for ``lease_s`` from now; 0 gives them back at once."""
        ...

    async def count(self) -> tuple[int, int]:
        """About how many messages wait, and how many are in flight."""
        ...

    async def purge(self) -> None:
        """Remove every message."""
        ...


class Queues(Protocol):
    """The queues of one fleet: ``SqsQueues`` and, for tests of the shells, ``MemoryQueues``."""

    @property
    def operations(self) -> Queue: ...
    @property
    def jobs(self) -> Queue: ...
    @property
    def completions(self) -> Queue: ...

    def dead(self, queue: Any) -> Queue:
        """The dead-letter queue of one of these queues."""
        ...

    async def ensure(self) -> None:
        """Create what is missing."""
        ...

    async def resolve(self) -> None:
        """Look every queue up. Raises NotFound naming the one that is absent."""
        ...


class Rejected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What lies in a dead-letter queue of a message nobody could read: why, and as much of it as fits."""

    reason: str
    body: str

    @classmethod
    def of(cls, text: str) -> Rejected | None:
        """What ``reject`` sent; None for anything else."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return None


async def reject(queues: Queues, queue: Queue, received: Received, reason: str) -> None:
    """Move a message nobody can read to the dead-letter queue, as ``{"reason": …, "body": …}``, for a person to look at."""
    body = received.body.encode()[:REJECTED_BODY_BYTES].decode(errors="ignore")
    await queues.dead(queue).send([msgspec.json.encode(Rejected(reason, body)).decode()])
    await queue.delete([received.handle])
