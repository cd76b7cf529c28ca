"""The contract of a queue, kept by SQS (two implementations of its wire protocol) and by the queues in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.conftest import ACCESS_KEY, Server
from tilefleet.config import QueuesSection
from tilefleet.errors import BadInput, NotAllowed, NotFound, Unreachable
from tilefleet.memory_queue import MemoryQueues
from tilefleet.quantities import Duration
from tilefleet.queues import Queue, Queues, Received, reject
from tilefleet.sqs import SqsQueues

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's; ours are under 2 KiB

LONG_S = 60.0  # a lease that no test outlives
WAIT_S = 20.0  # for what is certain to come


@pytest.fixture(params=["moto", pytest.param("ministack", marks=pytest.mark.thorough), "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Server | None:
    """The stand-in of this kind; only the one that is needed is started."""
    return None if kind == "memory" else request.getfixturevalue(f"{kind}_server")


def connect(server: Server | None, fleet: str, lease: str = "60 s") -> SqsQueues | MemoryQueues:
    """Queues of a fleet with 2 receives before the dead-letter queue."""
    if server is None:
        return MemoryQueues(fleet, lease_s=Duration(lease).s, max_receives=2)
    return SqsQueues(QueuesSection(endpoint_url=server.endpoint_url, lease=Duration(lease), max_receives=2), fleet)


@pytest.fixture
async def queues(server: Server | None, fleet: str) -> AsyncIterator[SqsQueues | MemoryQueues]:
    async with connect(server, fleet) as queues:
        await queues.ensure()
        yield queues


async def drain(queue: Queue, count: int) -> list[Received]:
    """``count`` messages, which are certain to be there."""
    found: list[Received] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            found += await queue.receive(10, 1)
    return found


async def test_a_message_is_sent_received_and_deleted(queues: Queues) -> None:
    await queues.jobs.send(["one"])
    (received,) = await queues.jobs.receive(10, 5)
    assert (received.body, received.receives) == ("one", 1)
    await queues.jobs.delete([received.handle])
    assert await queues.jobs.count() == (0, 0)


async def test_the_three_queues_are_apart(queues: Queues) -> None:
    await queues.operations.send(["operation"])
    await queues.completions.send(["completion"])
    assert await queues.jobs.receive(10, 0) == []
    assert [received.body for received in await queues.operations.receive(10, 5)] == ["operation"]
    assert [received.body for received in await queues.completions.receive(10, 5)] == ["completion"]


async def test_more_than_ten_at_a_time(queues: Queues) -> None:
    bodies = [f"message {number}" for number in range(27)]
    await queues.jobs.send(bodies)
    received = await drain(queues.jobs, 27)
    assert sorted(message.body for message in received) == sorted(bodies)
    await queues.jobs.extend([message.handle for message in received], LONG_S)
    await queues.jobs.delete([message.handle for message in received])
    assert await queues.jobs.count() == (0, 0)


async def test_at_most_as_many_as_asked_for(queues: Queues) -> None:
    await queues.jobs.send(["a", "b", "c"])
    assert len(await queues.jobs.receive(2, 5)) <= 2
    assert len(await queues.jobs.receive(100, 5)) >= 1


async def test_nothing_at_all_is_no_error(queues: Queues) -> None:
    await queues.jobs.send([])
    await queues.jobs.delete([])
    await queues.jobs.extend([], 1)
    assert await queues.jobs.count() == (0, 0)


@pytest.mark.parametrize("kind", ["moto", "memory"], indirect=True)  # ministack 1.4 knows the limit of old, 256 KiB
async def test_one_mebibyte_passes_and_one_byte_more_is_refused_before_anything_is_sent(queues: Queues) -> None:
    limit = 1024 * 1024
    await queues.jobs.send(["a" * limit])
    (received,) = await queues.jobs.receive(1, 5)
    assert received.body == "a" * limit
    await queues.jobs.delete([received.handle])
    with pytest.raises(BadInput, match="1048577 bytes"):
        await queues.jobs.send(["small", "é" * (limit // 2) + "a"])
    assert await queues.jobs.count() == (0, 0)


async def test_a_batch_is_split_at_one_mebibyte(queues: Queues) -> None:
    await queues.jobs.send([letter * 250_000 for letter in "abcde"])
    assert sorted(message.body[0] for message in await drain(queues.jobs, 5)) == list("abcde")


@pytest.mark.parametrize("body", ["Müller · 矩阵 🚀", '{"a": "\\u0000", "<&>": [1.5]}', " spaces and\nlines\ttabs ", "x"])
async def test_bodies_come_back_as_they_were(queues: Queues, body: str) -> None:
    await queues.jobs.send([body])
    assert [message.body for message in await queues.jobs.receive(1, 5)] == [body]


async def test_nobody_else_gets_a_message_within_its_lease(queues: Queues) -> None:
    await queues.jobs.send([str(number) for number in range(40)])

    async def consume() -> list[str]:
        bodies: list[str] = []
        while got := await queues.jobs.receive(3, 1):
            bodies += [message.body for message in got]
        return bodies

    shares = await asyncio.gather(*(consume() for _ in range(4)))
    assert sorted(body for share in shares for body in share) == sorted(str(number) for number in range(40))


async def test_a_message_comes_back_when_its_lease_ends(server: Server | None, fleet: str) -> None:
    async with connect(server, fleet, lease="1 s") as queues:
        await queues.ensure()
        await queues.jobs.send(["one"])
        (first,) = await queues.jobs.receive(1, 5)
        (again,) = await queues.jobs.receive(1, WAIT_S)
        assert (again.body, again.receives) == ("one", 2)
        assert again.handle != first.handle


async def test_a_lease_is_extended(server: Server | None, fleet: str) -> None:
    async with connect(server, fleet, lease="1 s") as queues:
        await queues.ensure()
        await queues.jobs.send(["held", "let go"])
        held, let_go = sorted(await drain(queues.jobs, 2))
        await queues.jobs.extend([held.handle], LONG_S)
        (again,) = await queues.jobs.receive(10, WAIT_S)
        assert again.body == let_go.body
        assert await queues.jobs.receive(10, 0) == []
        assert sum(await queues.jobs.count()) == 2


async def test_a_message_that_is_given_back_is_there_at_once(queues: Queues) -> None:
    await queues.jobs.send(["one"])
    (first,) = await queues.jobs.receive(1, 5)
    await queues.jobs.extend([first.handle], 0)
    (again,) = await queues.jobs.receive(1, 5)
    assert (again.body, again.receives) == ("one", 2)


async def test_after_max_receives_a_message_is_dead(queues: Queues) -> None:
    await queues.jobs.send(["poison"])
    for _ in range(2):
        (received,) = await queues.jobs.receive(1, 5)
        await queues.jobs.extend([received.handle], 0)
    assert await queues.jobs.receive(1, 1) == []
    (dead,) = await queues.dead(queues.jobs).receive(1, 5)
    assert dead.body == "poison"
    assert await queues.jobs.count() == (0, 0)


async def test_an_old_handle_is_no_error_and_leaves_the_message_to_its_new_holder(queues: Queues, kind: str) -> None:
    await queues.jobs.send(["one"])
    (first,) = await queues.jobs.receive(1, 5)
    await queues.jobs.extend([first.handle], 0)
    (second,) = await queues.jobs.receive(1, 5)
    await queues.jobs.delete([first.handle])
    await queues.jobs.extend([first.handle], 0)
    if kind != "ministack":  # it deletes by any handle that was ever given, and so may SQS: jobs are idempotent
        assert await queues.jobs.count() == (0, 1)
    await queues.jobs.delete([second.handle])
    await queues.jobs.delete([second.handle])
    assert await queues.jobs.count() == (0, 0)


async def test_a_poll_wakes_when_a_message_is_sent(queues: Queues) -> None:
    poll = asyncio.create_task(queues.jobs.receive(1, WAIT_S))
    await asyncio.sleep(0.3)
    await queues.jobs.send(["one"])
    assert [message.body for message in await poll] == ["one"]


async def test_a_poll_that_finds_nothing_ends(queues: Queues) -> None:
    assert await queues.jobs.receive(10, 0) == []
    assert await queues.jobs.receive(10, 1) == []


async def test_counts_and_purge(queues: Queues) -> None:
    await queues.jobs.send([str(number) for number in range(12)])
    assert await queues.jobs.count() == (12, 0)
    held = await queues.jobs.receive(3, 5)
    assert await queues.jobs.count() == (12 - len(held), len(held))
    await queues.jobs.purge()
    assert await queues.jobs.count() == (0, 0)


async def test_many_polls_and_sends_share_the_connections(queues: Queues) -> None:
    polls = [asyncio.create_task(queue.receive(1, WAIT_S)) for queue in (queues.jobs, queues.completions) for _ in range(8)]
    await asyncio.sleep(0.3)
    await asyncio.gather(queues.jobs.send(["job"] * 8), queues.completions.send(["completion"] * 8))
    received = [message.body for poll in await asyncio.gather(*polls) for message in poll]
    assert sorted(received) == ["completion"] * 8 + ["job"] * 8


async def test_an_absent_queue_is_named(server: Server | None, fleet: str) -> None:
    async with connect(server, fleet) as queues:
        if isinstance(queues, MemoryQueues):
            queues.jobs.lose()
        with pytest.raises(NotFound, match=f"the queue {fleet}-.* does not exist"):
            await queues.resolve()
        await queues.ensure()
        await queues.resolve()


async def test_a_lost_queue_is_not_found_and_ensure_makes_it_again(queues: SqsQueues | MemoryQueues) -> None:
    await queues.jobs.send(["lost"])
    await lose(queues)
    for attempt in (queues.jobs.send(["one"]), queues.jobs.receive(1, 0), queues.jobs.count(), queues.jobs.delete(["handle"])):
        with pytest.raises(NotFound, match=queues.jobs.name):
            await attempt
    await queues.ensure()
    await queues.jobs.send(["two"])
    assert [message.body for message in await drain(queues.jobs, 1)] == ["two"]


async def lose(queues: SqsQueues | MemoryQueues) -> None:
    """Make the jobs queue vanish behind its users' backs, as a stand-in that crashes does."""
    if isinstance(queues, MemoryQueues):
        queues.jobs.lose()
    else:
        await queues.jobs._sqs.delete_queue(QueueUrl=await queues.jobs.url())


async def test_ensure_twice_keeps_messages_and_mends_attributes(server: Server | None, queues: Queues, fleet: str) -> None:
    await queues.jobs.send(["one"])
    if server is None:
        await queues.ensure()
        assert await queues.jobs.count() == (1, 0)
        return
    async with connect(server, fleet, lease="7 s") as other:
        await other.ensure()
        assert isinstance(other, SqsQueues)
        assert (await other.jobs._attributes("VisibilityTimeout")) == {"VisibilityTimeout": "7"}
        policy = json.loads((await other.jobs._attributes("RedrivePolicy"))["RedrivePolicy"])
        assert int(policy["maxReceiveCount"]) == 2
        assert policy["deadLetterTargetArn"].endswith(f":{fleet}-jobs-dead")
        retention = await other.dead(other.jobs)._attributes("MessageRetentionPeriod")
        assert retention == {"MessageRetentionPeriod": str(14 * 24 * 3600)}
        tags = await other.jobs._sqs.list_queue_tags(QueueUrl=await other.jobs.url())
        assert tags["Tags"] == {"tilefleet:fleet": fleet}
        assert [message.body for message in await other.jobs.receive(1, 5)] == ["one"]


async def test_a_rejected_message_is_dead_with_its_reason(queues: Queues) -> None:
    await queues.jobs.send(["not ours: " + "é" * 120_000])
    (received,) = await queues.jobs.receive(1, 5)
    await reject(queues, queues.jobs, received, "it is not JSON")
    assert await queues.jobs.count() == (0, 0)
    (dead,) = await queues.dead(queues.jobs).receive(1, 5)
    envelope = json.loads(dead.body)
    assert envelope["reason"] == "it is not JSON"
    assert received.body.startswith(envelope["body"])
    assert 199_000 < len(envelope["body"].encode()) <= 200_000


# ---- what only the SQS adapter has to keep ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["moto", pytest.param("ministack", marks=pytest.mark.thorough)], indirect=True)
async def test_a_poll_whose_caller_is_cancelled_swallows_nothing(queues: SqsQueues) -> None:
    abandoned = asyncio.create_task(queues.jobs.receive(1, 2))
    await asyncio.sleep(0.5)  # until the poll waits at the server
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    await queues.jobs.send(["one"])
    assert [message.body for message in await queues.jobs.receive(1, WAIT_S)] == ["one"]


@pytest.mark.parametrize("kind", ["moto"], indirect=True)  # ministack notices dropped connections by itself
async def test_closing_waits_for_polls_that_nobody_waits_for(server: Server, queues: Queues, fleet: str) -> None:
    async with connect(server, fleet) as closing:
        abandoned = asyncio.create_task(closing.jobs.receive(1, 2))
        await asyncio.sleep(0.5)
        abandoned.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await abandoned
    await queues.jobs.send(["one"])
    (received,) = await queues.jobs.receive(1, WAIT_S)
    assert (received.body, received.receives) == ("one", 1)


@pytest.mark.parametrize("kind", ["moto"], indirect=True)
async def test_the_stand_in_refuses_other_access_keys(server: Server, fleet: str) -> None:
    settings = QueuesSection(endpoint_url=server.endpoint_url)
    for key in ("SOMEBODY", ACCESS_KEY + "X"):
        async with SqsQueues(settings, fleet, credentials=(key, "secret")) as queues:
            with pytest.raises(NotAllowed, match="refused these AWS credentials"):
                await queues.ensure()


async def test_absent_credentials_are_named(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with SqsQueues(QueuesSection(endpoint_url="http://127.0.0.1:9"), fleet) as queues:
        with pytest.raises(NotAllowed, match=r"there are no AWS credentials.*AWS_PROFILE"):
            await queues.resolve()


async def test_an_absent_profile_is_named(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NotAllowed, match=r"nobody.*mend AWS_PROFILE"):
        async with SqsQueues(QueuesSection(), fleet):
            raise AssertionError("not reached")


async def test_a_service_that_is_not_there_is_unreachable(fleet: str) -> None:
    async with SqsQueues(QueuesSection(endpoint_url="http://127.0.0.1:9"), fleet) as queues:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await queues.resolve()


@asynccontextmanager
async def service(*answers: dict[str, Any] | None) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """An SQS whose SendMessageBatch gives these answers, then successes (None: it never answers); what it was sent."""
    sent: list[list[str]] = []
    script = list(answers)

    async def answer(request: web.Request) -> web.Response:
        if request.headers["X-Amz-Target"].endswith("GetQueueUrl"):
            return web.json_response({"QueueUrl": "http://127.0.0.1/queue"}, content_type="application/x-amz-json-1.0")
        sent.append([entry["MessageBody"] for entry in (await request.json())["Entries"]])
        body = script.pop(0) if script else {}
        if body is None:
            await asyncio.sleep(WAIT_S)
        return web.json_response(body, content_type="application/x-amz-json-1.0")

    application = web.Application()
    application.router.add_post("/{any:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", sent
    finally:
        await runner.cleanup()


def failures(is_ours: bool, *ids: str) -> dict[str, Any]:
    return {"Failed": [{"Id": id_, "SenderFault": is_ours, "Code": "Sometimes", "Message": "no luck"} for id_ in ids]}


async def test_entries_that_fail_alone_are_sent_again(fleet: str) -> None:
    script = failures(False, "1", "2"), failures(False, "2")
    async with service(*script) as (url, sent), SqsQueues(QueuesSection(endpoint_url=url), fleet) as queues:
        await queues.jobs.send(["a", "b", "c"])
    assert sent == [["a", "b", "c"], ["b", "c"], ["c"]]


async def test_entries_that_always_fail_are_unreachable(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilefleet.sqs.RESENDS", 1)
    async with service(*[failures(False, "0")] * 3) as (url, sent), SqsQueues(QueuesSection(endpoint_url=url), fleet) as queues:
        with pytest.raises(Unreachable, match="1 messages after 2 tries"):
            await queues.jobs.send(["a"])
    assert sent == [["a"], ["a"]]


async def test_an_entry_that_is_refused_is_an_error_and_is_not_sent_again(fleet: str) -> None:
    async with service(failures(True, "0")) as (url, sent), SqsQueues(QueuesSection(endpoint_url=url), fleet) as queues:
        with pytest.raises(BadInput, match="refused a message: no luck"):
            await queues.jobs.send(["a", "b"])
    assert sent == [["a", "b"]]


async def test_a_service_that_never_answers_is_unreachable(fleet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilefleet.sqs.CALL_TIMEOUT_S", 0.5)
    async with service(None) as (url, _), SqsQueues(QueuesSection(endpoint_url=url), fleet) as queues:
        with pytest.raises(Unreachable, match="did not answer in time"):
            await queues.jobs.send(["a"])
