"""The real coordinator before workers that are played: they answer every job at once, ten to a batch, over SQS.

The rule: coordinator, queues and store are processes and files as in production; what is measured is the processor time of the
coordinator's process from submission to end, with everything it does for a job: messages, beacon, statuses, heartbeats.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import psutil

from benchmarks import places
from benchmarks.fleet_of_thousands import FLOPS_PER_S, MEMORY_BYTES, OPERATION, SLOTS, record_of
from benchmarks.surroundings import environment
from tilefleet import layout
from tilefleet.config import QueuesSection, StoreSection
from tilefleet.facts import BytesFact
from tilefleet.messages import Job, JobDone, JobTimes, Publish, Submit, WorkerHeartbeat, WorkerHello, decode_job, encode
from tilefleet.queues import BATCH
from tilefleet.records import OperationStatus, from_json, to_json
from tilefleet.sqs import SqsQueues
from tilefleet.store import Store, Stores, file_url
from tilefleet.wire import Wire

FLEET = "played"
N_WORKERS = 100
N_HANDS = 6  # that receive and answer; as many as keep the coordinator busy
ENDLESS_SIDE = 100  # of operations that do not end while they are measured
HEARTBEAT_S = 5.0
START_S = 60.0
DEADLINE_S = 600.0
TIMES = JobTimes(20.0, 0.1, 1.0, 20.0, 0.1, 0.5, 10**9, 10**8, 10**12)


class Tally:
    """Jobs that were answered."""

    n = 0


async def play(directory: Path, endpoint_url: str, side: int) -> dict[str, float]:
    """One operation of side² jobs: ``s``, the coordinator's ``cpu_s``, ``jobs`` and ``ms_per_job``."""
    async with _played(directory, endpoint_url) as (process, queues, store):
        began, before_s = time.perf_counter(), _cpu_s(process)
        await _submit(queues, store, [OPERATION], side)
        async with asyncio.timeout(DEADLINE_S), _hands(queues):
            while not await _is_done(store):  # noqa: ASYNC110 - a store calls nobody
                await asyncio.sleep(0.1)
        return _figures(process, began, before_s, side**2)


async def play_many(directory: Path, endpoint_url: str, n_operations: int, n_jobs: int) -> dict[str, float]:
    """That many operations open at once, none of which ends: the same for ``n_jobs`` of their jobs, and ``memory_mb``."""
    async with _played(directory, endpoint_url) as (process, queues, store), asyncio.timeout(DEADLINE_S):
        operations = [f"{number:012}" for number in range(n_operations)]
        await _submit(queues, store, operations, ENDLESS_SIDE)
        for operation in operations:
            while await store.head(layout.plan(operation, "main")) is None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        began, before_s = time.perf_counter(), _cpu_s(process)
        async with _hands(queues) as tally:
            while tally.n < n_jobs:  # noqa: ASYNC110 - simpler than an event, and as exact as the processor's clock
                await asyncio.sleep(0.05)
        found = _figures(process, began, before_s, tally.n)
        return found | {"memory_mb": psutil.Process(process.pid).memory_info().rss / 1e6}


@asynccontextmanager
async def _played(directory: Path, endpoint_url: str) -> AsyncIterator[tuple[subprocess.Popen[bytes], SqsQueues, Store]]:
    """A coordinator that leads and hears its workers."""
    store = Stores(StoreSection()).open(file_url(directory / "store"))
    async with SqsQueues(QueuesSection(endpoint_url=endpoint_url), FLEET) as queues:
        await queues.ensure()
        with coordinator(directory, endpoint_url) as process:
            await _until_it_leads(store)
            await queues.completions.send([encode(_hello(number)) for number in range(N_WORKERS)])
            beats = asyncio.create_task(_beat(queues), name="heartbeats")
            try:
                yield process, queues, store
            finally:
                beats.cancel()
                await asyncio.gather(beats, return_exceptions=True)


async def _submit(queues: SqsQueues, store: Store, operations: list[str], side: int) -> None:
    for operation in operations:
        await store.put(layout.open_mark(operation), b"")
        await store.put_new(layout.record(operation), to_json(msgspec.structs.replace(record_of(side), id=operation)))
    await queues.operations.send([encode(Submit(FLEET, operation)) for operation in operations])


def _figures(process: subprocess.Popen[bytes], began: float, before_s: float, n_jobs: int) -> dict[str, float]:
    cpu_s = _cpu_s(process) - before_s
    return {"s": time.perf_counter() - began, "cpu_s": cpu_s, "jobs": n_jobs, "ms_per_job": 1e3 * cpu_s / n_jobs}


@asynccontextmanager
async def _hands(queues: SqsQueues) -> AsyncIterator[Tally]:
    """Workers that answer until the block ends."""
    tally = Tally()
    hands = [asyncio.create_task(_answer(queues, tally), name=f"hand-{number}") for number in range(N_HANDS)]
    try:
        yield tally
    finally:
        for hand in hands:
            hand.cancel()
        await asyncio.gather(*hands, return_exceptions=True)


async def _answer(queues: SqsQueues, tally: Tally) -> None:
    while True:
        received = await queues.jobs.receive(BATCH, 1.0)
        if received:
            done = [encode(_done(decode_job(message.body), tally.n + n)) for n, message in enumerate(received)]
            await queues.completions.send(done)
            await queues.jobs.delete([message.handle for message in received])
            tally.n += len(done)


async def _beat(queues: SqsQueues) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        await queues.completions.send([encode(WorkerHeartbeat(FLEET, *_name(number), ())) for number in range(N_WORKERS)])


async def _is_done(store: Store) -> bool:
    key = layout.status(OPERATION, 1)
    if await store.head(key) is None:
        return False
    status = from_json(bytes(await store.get(key)), OperationStatus, key)
    if status.is_ended and status.state != "done":
        raise RuntimeError(f"the operation {status.state}: {status.error}")
    return status.is_ended


async def _until_it_leads(store: Store) -> None:
    async with asyncio.timeout(START_S):
        while await store.head(layout.control(1)) is None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


@contextmanager
def coordinator(directory: Path, endpoint_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, on a store and queues of its own."""
    (directory / "store").mkdir(parents=True)
    told = {"fleet": {"name": FLEET, "kind": "remote"}, "store": {"url": file_url(directory / "store")},
            "queues": {"endpoint_url": endpoint_url}}  # fmt: skip
    config = directory / "coordinator.toml"
    config.write_text(
        "\n".join(f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
                  for name, section in told.items())
    )  # fmt: skip
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with (places.LOGS / "coordinator.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.daemon", "--config", str(config)],
            cwd=directory, env=environment(**keys), stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _name(number: int) -> tuple[str, str]:
    return f"w{number:03}", f"i{number}"


def _hello(number: int) -> WorkerHello:
    return WorkerHello(FLEET, *_name(number), "0", 2, MEMORY_BYTES, FLOPS_PER_S, 1e9, SLOTS)


def _done(job: Job, number: int) -> Wire:
    whose = (FLEET, *_name(number % N_WORKERS), job.operation, job.stage, job.index, job.attempt)
    return JobDone(*whose, TIMES, 1e-3, BytesFact(1) if isinstance(job.work, Publish) else None)


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)
