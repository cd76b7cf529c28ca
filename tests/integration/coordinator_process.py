"""The real coordinator as a process, and a test in the place of the client and of the workers."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tilefleet import layout
from tilefleet.config import QueuesSection, StoreSection
from tilefleet.facts import BytesFact
from tilefleet.ids import OPERATION_ID_LENGTH
from tilefleet.ids import encode as id_of
from tilefleet.messages import Job, JobDone, JobTimes, Publish, Random, Submit, WorkerHello, decode_job, encode
from tilefleet.quantities import Duration
from tilefleet.queues import Queue
from tilefleet.records import Control, OperationRecord, OperationStatus, RandomSpec, from_json, to_json
from tilefleet.sqs import SqsQueues
from tilefleet.store import Store, Stores, file_url
from tilefleet.wire import Wire

T = TypeVar("T")
DEADLINE_S = 20.0  # for anything to happen; nothing here asserts how fast
ME = ("hand", "i1")


class Scene:
    """One fleet: a directory store, its queues, the coordinators that a test starts, and a worker played by hand."""

    def __init__(self, directory: Path, fleet: str, endpoint_url: str) -> None:
        (directory / "store").mkdir(exist_ok=True)
        self.directory = directory
        self.fleet = fleet
        self.endpoint_url = endpoint_url
        self.url = file_url(directory / "store")
        self.store: Store = Stores(StoreSection()).open(self.url)
        self.queues = SqsQueues(QueuesSection(endpoint_url=endpoint_url, lease=Duration("10 s")), fleet)
        self.processes: list[subprocess.Popen[bytes]] = []

    # ---- coordinators

    def config(self, name: str = "c1", **coordinator: str) -> Path:
        """A configuration file; what is given goes into [coordinator]."""
        keys = {"beacon": "200 ms", "inbox": "1 s", "worker_silence": "90 s", **coordinator}
        section = "\n".join(f'{key} = "{value}"' for key, value in keys.items())
        text = f"""
[fleet]
name = "{self.fleet}"
kind = "remote"
[store]
url = "{self.url}"
[queues]
endpoint_url = "{self.endpoint_url}"
lease = "10 s"
[coordinator]
{section}
"""
        path = self.directory / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, config: Path | None = None) -> subprocess.Popen[bytes]:
        """A coordinator that logs beside its configuration."""
        config = config or self.config()
        with config.with_suffix(".log").open("ab") as log:
            command = [sys.executable, "-m", "coordinator.daemon", "--config", os.fspath(config)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def said(self, event: str, name: str = "c1") -> list[dict[str, Any]]:
        """The lines of a coordinator's log about that event."""
        lines = (self.directory / f"{name}.log").read_text(encoding="utf-8").splitlines()
        return [line for line in map(json.loads, filter(lambda line: line.startswith("{"), lines)) if line["event"] == event]

    async def leads(self, epoch: int) -> Control:
        """The beacon of that epoch, once it is there."""
        return await self.until(lambda: self._control(epoch))

    async def exit_status(self, process: subprocess.Popen[bytes]) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.to_thread(process.wait)

    async def _control(self, epoch: int) -> Control | None:
        if await self.store.head(layout.control(epoch)) is None:
            return None
        return from_json(bytes(await self.store.get(layout.control(epoch))), Control, "control")

    # ---- the client's part

    async def write(self, *, shape: tuple[int, int] = (2048, 256)) -> OperationRecord:
        """The record of a random matrix of several tiles, marked open; nobody is told."""
        operation = id_of(secrets.token_bytes(OPERATION_ID_LENGTH), OPERATION_ID_LENGTH)
        record = OperationRecord(operation, "random", random=RandomSpec(shape, "float64", "0", "1", 7), tile=(256, 256))
        await self.store.put(layout.open_mark(operation), b"")
        await self.store.put_new(layout.record(operation), to_json(record))
        return record

    async def submit(self, *, shape: tuple[int, int] = (2048, 256)) -> OperationRecord:
        """The same, and the message."""
        record = await self.write(shape=shape)
        await self.tell(self.queues.operations, Submit(self.fleet, record.id))
        return record

    async def tell(self, queue: Queue, *messages: Wire) -> None:
        await queue.send([encode(message) for message in messages])

    async def status(self, operation: str) -> OperationStatus | None:
        """What a reader believes: the status of the highest epoch."""
        keys = [entry.key async for entry in self.store.entries(layout.statuses(operation))]
        if not keys:
            return None
        return from_json(bytes(await self.store.get(max(keys))), OperationStatus, max(keys))

    async def state(self, operation: str, *states: str) -> OperationStatus:
        """The status, once the operation is in one of those states."""

        async def reached() -> OperationStatus | None:
            status = await self.status(operation)
            return status if status is not None and status.state in states else None

        return await self.until(reached)

    async def closed(self, operation: str) -> None:
        """Wait until it was cleaned up after."""

        async def is_closed() -> bool:
            return await self.store.head(layout.open_mark(operation)) is None

        await self.until(is_closed)

    # ---- the worker's part

    async def hello(self, incarnation: str = "i1") -> None:
        """A worker is there."""
        hello = WorkerHello(self.fleet, ME[0], incarnation, "0", 1, 1 << 30, 1e10, 1e9, 2)
        await self.tell(self.queues.completions, hello)

    async def take(self, count: int) -> list[Job]:
        """That many jobs from the queue, deleted from it."""
        jobs: list[Job] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(jobs) < count:
                received = await self.queues.jobs.receive(min(10, count - len(jobs)), 1.0)
                jobs += [decode_job(message.body) for message in received]
                await self.queues.jobs.delete([message.handle for message in received])
        return jobs

    async def work_off(self, count: int) -> list[Job]:
        """Take and finish that many jobs, one after another: the window gives no more than three at a time."""
        done: list[Job] = []
        for _ in range(count):
            done += await self.take(1)
            await self.do(done[-1])
        return done

    async def commit(self, job: Job) -> None:
        """Write what the job's output is, as far as the coordinator can see: its keys."""
        work = job.work
        if isinstance(work, Random):
            place = Stores(StoreSection()).open(work.out.url)
            for i, j in work.out.grid.tiles_in(work.rect):
                await place.put_new(f"c/{i}/{j}", b"tile")
        else:
            assert isinstance(work, Publish)
            key = layout.indexed(layout.facts(job.operation, job.stage), job.index)
            await self.store.put_new(key, to_json(BytesFact(1)))

    async def do(self, *jobs: Job) -> None:
        """Finish jobs and say so."""
        for job in jobs:
            await self.commit(job)
            await self.say_done(job)

    async def say_done(self, job: Job) -> None:
        """The completion alone."""
        times = JobTimes(total_s=0.1, bytes_written=10)
        await self.tell(
            self.queues.completions, JobDone(self.fleet, *ME, job.operation, job.stage, job.index, job.attempt, times)
        )

    async def until(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """The first answer that is true."""
        async with asyncio.timeout(DEADLINE_S):
            while not (answer := await look()):  # noqa: ASYNC110 - other processes set no events
                await asyncio.sleep(0.05)
            return answer


@asynccontextmanager
async def scene(directory: Path, fleet: str, endpoint_url: str) -> AsyncIterator[Scene]:
    """A fleet with queues; its coordinators end with the block."""
    made = Scene(directory, fleet, endpoint_url)
    try:
        async with made.queues:
            await made.queues.ensure()
            yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
