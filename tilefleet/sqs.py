"""SQS by aioboto3: the queues of one fleet.

The rules: every call has a deadline of its own; a poll that is under way is never dropped, because SQS would hide its
message until the lease ends; an entry that fails alone in a batch is sent again unless it is the sender's fault; every
error says what the caller should do: NotFound (make the queues again), NotAllowed (mend credentials), Unreachable (retry).
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from types import TracebackType
from typing import Any

from tilefleet import aws
from tilefleet.bounded import for_each
from tilefleet.config import QueuesSection
from tilefleet.errors import BadInput, NotFound, TilefleetError, Unreachable
from tilefleet.messages import MAX_MESSAGE_BYTES
from tilefleet.queues import BATCH, Received
from tilefleet.sqs_keys import queue_keys

MAX_WAIT_S = 20  # SQS limit of a long poll
CALL_TIMEOUT_S = 20.0  # a call that does not wait answers in 10–50 ms; three attempts and their back-off fit in here
POLL_MARGIN_S = 10.0  # beyond the wait: a poll that hangs for ever is a known fault of several SDKs
CONNECTIONS = 50  # several long polls hold one each, sends and renewals need theirs beside them
RESENDS = 5  # of entries that failed alone, 0.1, 0.2, 0.4 … s apart
DEAD_SUFFIX = "-dead"
RETENTION_DEAD_S = 14 * 24 * 3600  # SQS maximum: time for a person to look


class SqsQueues:
    """The queues of one fleet; an async context manager that holds their connections.

    ``credentials``: access key and secret key; None: those of ``queue_keys``, else what the AWS environment says.
    """

    def __init__(self, settings: QueuesSection, fleet: str, *, credentials: tuple[str, str] | None = None) -> None:
        self._settings = settings
        self._fleet = fleet
        self._credentials = credentials or queue_keys()
        self._stack = AsyncExitStack()
        self.operations = SqsQueue(f"{fleet}-operations")
        self.jobs = SqsQueue(f"{fleet}-jobs")
        self.completions = SqsQueue(f"{fleet}-completions")
        self._main = (self.operations, self.jobs, self.completions)
        self._dead = {queue.name: SqsQueue(queue.name + DEAD_SUFFIX) for queue in self._main}

    def dead(self, queue: Any) -> SqsQueue:
        """The dead-letter queue of one of these queues."""
        return self._dead[queue.name]

    async def __aenter__(self) -> SqsQueues:
        """Open the connections. Raises NotAllowed when the AWS profile cannot be used."""
        client = await self._stack.enter_async_context(_client(self._settings, self._credentials))
        for queue in (*self._main, *self._dead.values()):
            queue.open(client)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:  # a poll whose caller was cancelled ends first, at most its wait from now; cancel again to leave at once
            await asyncio.gather(*(queue.settle() for queue in (*self._main, *self._dead.values())))
        finally:
            await self._stack.aclose()

    async def resolve(self) -> None:
        """Look up every queue. Raises NotFound naming the one that is absent."""
        await asyncio.gather(*(queue.url() for queue in self._main))

    async def ensure(self) -> None:
        """Create what is missing and mend what differs: queues, dead-letter queues, redrive policy, visibility."""
        await for_each(self._main, self._ensure, concurrency=len(self._main), name="ensure")  # none goes on when one failed

    async def _ensure(self, queue: SqsQueue) -> None:
        tags = {"tilefleet:fleet": self._fleet}
        dead = self.dead(queue)
        await dead.ensure({"MessageRetentionPeriod": str(RETENTION_DEAD_S)}, tags)
        redrive = {"deadLetterTargetArn": await dead.arn(), "maxReceiveCount": self._settings.max_receives}
        lease_s = str(math.ceil(self._settings.lease.s))
        await queue.ensure({"VisibilityTimeout": lease_s, "RedrivePolicy": json.dumps(redrive)}, tags)


class SqsQueue:
    """One standard queue; keeps the contract of ``tilefleet.queues.Queue``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._url = ""
        self._sqs: Any = None
        self._orphans: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"SqsQueue({self.name})"

    def open(self, client: Any) -> None:
        """Use this client from now on."""
        self._sqs = client

    async def url(self) -> str:
        """The queue's URL, looked up once. Raises NotFound."""
        if not self._url:
            answer = await self._call(self._sqs.get_queue_url(QueueName=self.name))
            self._url = answer["QueueUrl"]
        return self._url

    async def arn(self) -> str:
        """The queue's ARN."""
        return (await self._attributes("QueueArn"))["QueueArn"]

    async def ensure(self, attributes: dict[str, str], tags: dict[str, str]) -> None:
        """Create the queue, or give the one that is there these attributes."""
        self._url = ""  # a stand-in that lost its queues may come back under another address
        try:
            present = await self._attributes(*attributes)
        except NotFound:
            create = self._sqs.create_queue(QueueName=self.name, Attributes=attributes, tags=tags)
            self._url = (await self._call(create))["QueueUrl"]
            return
        if any(not _same(present.get(key, ""), value) for key, value in attributes.items()):
            await self._call(self._sqs.set_queue_attributes(QueueUrl=await self.url(), Attributes=attributes))

    async def send(self, bodies: Sequence[str]) -> None:
        """Send messages in batches. Raises BadInput for one over 1 MiB, before any is sent; Unreachable if some stay unsent."""
        batches = list(_batches(bodies, self.name))
        url = await self.url()
        for batch in batches:
            entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(batch)]
            refused = await self._each(entries, lambda some: self._sqs.send_message_batch(QueueUrl=url, Entries=some))
            if refused:
                raise BadInput(f"the queue {self.name} refused a message: {refused[0].get('Message') or refused[0].get('Code')}")

    async def receive(self, max_messages: int, wait_s: float) -> list[Received]:
        """Up to ``max_messages`` (≤ 10), waiting up to ``wait_s`` (≤ 20; whole seconds at SQS, rounded up) for the first.

        When the caller is cancelled the poll goes on without it and what it brings is given back at once.
        """
        poll = asyncio.create_task(self._poll(max_messages, math.ceil(min(wait_s, MAX_WAIT_S))), name=f"poll-{self.name}")
        try:
            return await asyncio.shield(poll)
        except asyncio.CancelledError:
            orphan = asyncio.create_task(self._give_back(poll), name=f"orphan-{self.name}")
            self._orphans.add(orphan)
            orphan.add_done_callback(self._orphans.discard)
            raise

    async def _poll(self, max_messages: int, wait_s: int) -> list[Received]:
        request = self._sqs.receive_message(
            QueueUrl=await self.url(),
            MaxNumberOfMessages=min(max_messages, BATCH),
            WaitTimeSeconds=wait_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        answer = await self._call(request, wait_s + POLL_MARGIN_S)
        return [
            Received(
                message["Body"], message["ReceiptHandle"], int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
            )
            for message in answer.get("Messages", ())
        ]

    async def _give_back(self, poll: asyncio.Task[list[Received]]) -> None:
        try:
            await self.extend([received.handle for received in await poll], 0)
        except TilefleetError:
            return  # the lease ends by itself

    async def settle(self) -> None:
        """Wait for polls whose callers are gone."""
        await asyncio.gather(*self._orphans)

    async def delete(self, handles: Sequence[str]) -> None:
        """Remove delivered messages; a handle that is too old is no error."""
        url = await self.url()
        for start in range(0, len(handles), BATCH):
            entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles[start : start + BATCH])]
            await self._each(entries, lambda some: self._sqs.delete_message_batch(QueueUrl=url, Entries=some))

    async def extend(self, handles: Sequence[str], lease_s: float) -> None:
        """Hide delivered messages for ``lease_s`` (whole seconds, rounded up) from now; a handle that is too old is no error."""
        url = await self.url()
        for start in range(0, len(handles), BATCH):
            entries = [
                {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": math.ceil(lease_s)}
                for n, handle in enumerate(handles[start : start + BATCH])
            ]
            await self._each(entries, lambda some: self._sqs.change_message_visibility_batch(QueueUrl=url, Entries=some))

    async def count(self) -> tuple[int, int]:
        """About how many messages wait, and how many are in flight."""
        waiting, in_flight = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
        found = await self._attributes(waiting, in_flight)
        return int(found[waiting]), int(found[in_flight])

    async def purge(self) -> None:
        """Remove every message. SQS allows it once in 60 s; sooner raises Unreachable."""
        await self._call(self._sqs.purge_queue(QueueUrl=await self.url()))

    async def _attributes(self, *names: str) -> dict[str, str]:
        request = self._sqs.get_queue_attributes(QueueUrl=await self.url(), AttributeNames=list(names))
        answer = await self._call(request)
        return dict(answer.get("Attributes", {}))

    async def _each(self, entries: list[Any], call: Callable[[list[Any]], Awaitable[Any]]) -> list[Any]:
        """Do a batch call until no entry fails by the service's fault; the entries that failed by ours."""
        refused: list[Any] = []
        for attempt in range(RESENDS + 1):
            if attempt:
                await asyncio.sleep(0.05 * 2**attempt)
            failed = (await self._call(call(entries))).get("Failed", [])
            refused += [failure for failure in failed if failure.get("SenderFault")]
            again = {failure["Id"] for failure in failed if not failure.get("SenderFault")}
            entries = [entry for entry in entries if entry["Id"] in again]
            if not entries:
                return refused
        raise Unreachable(
            f"the queue {self.name} did not take {len(entries)} messages after {RESENDS + 1} tries; try again later"
        )

    async def _call(self, request: Awaitable[Any], timeout_s: float | None = None) -> Any:
        with _errors(f"the queue {self.name}"):
            async with asyncio.timeout(timeout_s or CALL_TIMEOUT_S):
                return await request


def _client(settings: QueuesSection, credentials: tuple[str, str] | None) -> Any:
    config = {"read_timeout": MAX_WAIT_S + POLL_MARGIN_S, "max_pool_connections": CONNECTIONS}
    return aws.client("sqs", region=settings.region, endpoint_url=settings.endpoint_url, keys=credentials, config=config)


def _batches(bodies: Sequence[str], name: str) -> Iterator[list[str]]:
    """Batches of at most 10 messages and 1 MiB together."""
    batch: list[str] = []
    batch_bytes = 0
    for body in bodies:
        n_bytes = len(body.encode())
        if n_bytes > MAX_MESSAGE_BYTES:
            raise BadInput(f"a message of {n_bytes} bytes for the queue {name} is over the 1 MiB that SQS carries")
        if len(batch) == BATCH or batch_bytes + n_bytes > MAX_MESSAGE_BYTES:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(body)
        batch_bytes += n_bytes
    if batch:
        yield batch


def _same(present: str, wanted: str) -> bool:
    """Whether two attribute values say the same; a redrive policy is JSON, its count a number or a string."""
    try:
        one, other = json.loads(present), json.loads(wanted)
    except ValueError:
        return present == wanted
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: str(value) for key, value in one.items()} == {key: str(value) for key, value in other.items()}
    return bool(one == other)


def _errors(what: str) -> AbstractContextManager[None]:
    mend = "start the coordinator of this fleet, which makes it, or mend fleet.name"
    return aws.errors(what, mend, setting="queues.endpoint_url")
