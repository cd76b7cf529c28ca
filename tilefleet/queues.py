"""Queues: the port, and its implementation on SQS by aioboto3. ``MemoryQueue`` is the other one, for tests of the shells.

The contract both keep (tests/conformance/): standard-queue semantics, at least once and in any order; a received message
is hidden until its lease ends, is renewed, returned or deleted; deletion needs the newest handle; after ``max_receives``
deliveries it moves to the dead-letter queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

BATCH = 10  # SQS limit of entries in a batch


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
