"""The outbox: nothing that the completions queue refuses holds up the completions behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from tests.unit.golden.examples import EXAMPLES, GEMM, job
from tilefleet.errors import BadInput
from tilefleet.memory_queue import MemoryQueue
from tilefleet.messages import MAX_MESSAGE_BYTES, JobDone, JobFailed, WorkerHello, decode_worker, encode
from workerd.leases import LeaseBook
from workerd.outbox import Letter, Outbox
from workerd.roster import Roster

HELLO = msgspec.convert(EXAMPLES["hello"], WorkerHello, from_attributes=True)
JOB = job(GEMM)
TOO_LONG = "x" * (MAX_MESSAGE_BYTES + 1)


class Picky(MemoryQueue):
    """As SQS, it refuses a whole call for one bad body."""

    async def send(self, bodies: Sequence[str]) -> None:
        if any("\uffff" in body for body in bodies):
            raise BadInput("the queue completions refused a message: InvalidMessageContents \uffff")
        await super().send(bodies)


class Desk:
    """An outbox with its queues."""

    def __init__(self) -> None:
        self.completions, self.jobs = Picky("completions"), MemoryQueue("jobs")
        self.roster = Roster(HELLO)
        self.gone: list[str] = []
        self.outbox = Outbox(self.completions, self.jobs, LeaseBook(60.0))

    def letter(self, name: str, body: str | None) -> Letter:
        return Letter(name, body, partial(self.gone.append, name), partial(self.roster.refused, JOB))

    async def told(self, letters: Sequence[Letter]) -> list[str]:
        """Post them all, send, and what the coordinator hears."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.outbox.run())
            for letter in letters:
                self.outbox.post(letter)
            await self.outbox.flush(10)
            running.cancel()
        heard: list[str] = []
        while received := await self.completions.receive(10, 0):
            heard += [message.body for message in received]
        return heard


DONE = encode(msgspec.convert(EXAMPLES["done"], JobDone, from_attributes=True))


@pytest.mark.parametrize("bad", [TOO_LONG, '{"name":"\uffff"}'])
async def test_a_refused_completion_becomes_a_failure_and_the_others_are_told(bad: str) -> None:
    desk = Desk()
    letters = [desk.letter(f"h{i}", bad if i == 3 else DONE) for i in range(12)]
    heard = [decode_worker(body) for body in await desk.told(letters)]
    assert sorted(desk.gone) == sorted(letter.handle for letter in letters)
    [failed] = [message for message in heard if isinstance(message, JobFailed)]
    assert sum(isinstance(message, JobDone) for message in heard) == 11
    assert not failed.is_retryable
    assert failed.error.code == "bad_input"
    assert failed.error.sentence.startswith("the completion of job multiply/12 could not be sent: ")
    assert failed.error.sentence.isascii()
    assert (failed.operation, failed.stage, failed.index) == JOB.key


async def test_when_even_the_replacement_is_refused_the_rest_is_told() -> None:
    desk = Desk()
    hopeless = desk.letter("bad", TOO_LONG)._replace(instead=lambda _: TOO_LONG)
    assert await desk.told([hopeless, desk.letter("good", DONE), desk.letter("dropped", None)]) == [DONE]
    assert desk.gone == ["bad", "good", "dropped"]


def test_a_refusal_is_short_whatever_the_reason() -> None:
    message = decode_worker(Roster(HELLO).refused(JOB, BadInput("é" * 10_000)))
    assert isinstance(message, JobFailed)
    assert len(message.error.sentence) < 700
