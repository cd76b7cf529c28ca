"""The real workerd as a process, and a test in the coordinator's place: it sends jobs and hears what the worker says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tilefleet.config import QueuesSection, StoreSection
from tilefleet.errors import NotFound
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Gemm, Job, JobDone, JobFailed, Random, Work, WorkerHeartbeat, WorkerMessage, decode_worker, encode
from tilefleet.quantities import Duration
from tilefleet.records import Control, to_json
from tilefleet.sqs import SqsQueues
from tilefleet.store import Store, Stores, file_url

DEADLINE_S = 100.0  # for anything to happen; nothing here asserts how fast
T = TypeVar("T", bound=WorkerMessage)


class Scene:
    """One fleet: a directory store, its queues, and the workers that a test starts."""

    def __init__(self, directory: Path, fleet: str, endpoint_url: str, lease_s: int = 10) -> None:
        self.directory = directory
        self.fleet = fleet
        self.store_url = file_url(directory / "store")
        (directory / "store").mkdir(exist_ok=True)
        self.store: Store = Stores(StoreSection()).open(self.store_url)
        self.endpoint_url = endpoint_url
        self.lease_s = lease_s
        self.settings = QueuesSection(endpoint_url=endpoint_url, lease=Duration(f"{lease_s} s"))
        self.heard: list[WorkerMessage] = []
        self.queues = SqsQueues(self.settings, fleet)
        self.processes: list[subprocess.Popen[bytes]] = []

    def config(self, name: str, level: str = "info", **worker: str) -> Path:
        """A configuration file for a worker of this fleet."""
        keys = {"heartbeat": '"500 ms"', "memory": '"600 MiB"', **worker}
        section = "\n".join(f"{key} = {value}" for key, value in keys.items())
        text = f"""
[fleet]
name = "{self.fleet}"
kind = "remote"
[store]
url = "{self.store_url}"
[queues]
endpoint_url = "{self.endpoint_url}"
lease = "10 s"
[worker]
name = "{name}"
cores = 1
{section}
[log]
level = "{level}"
"""
        path = self.directory / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, config: Path, *options: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A workerd that logs beside its configuration."""
        with config.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workerd.daemon", "--config", os.fspath(config), *options],
                stdout=log,
                stderr=log,
                env=os.environ | (environment or {}),
            )
        self.processes.append(process)
        return process

    def log(self, name: str) -> list[dict[str, Any]]:
        """The log lines of a worker."""
        lines = (self.directory / f"{name}.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def job(self, index: int, work: Work, *, stage: str = "stage", operation: str = "0p3rat10n000", peak_bytes: int = 0) -> Job:
        """A job of this fleet."""
        return Job(self.fleet, operation, stage, index, 0, 1, peak_bytes, work)

    def random(self, side: int = 256, name: str = "r") -> Random:
        """Something small to compute."""
        out = MatrixRef(f"{self.store_url}/matrices/{name}", "zarr", (side, side), "float64", (256, 256), is_ours=True)
        return Random(out, Rect(0, side, 0, side), "0", "1", 7)

    def slow(self, index: int, panels: int) -> Job:
        """A product of constant matrices, which take no room: each panel is 0.5 Gflop, 10–50 ms on a core."""
        depth = 256 * panels
        a = MatrixRef(f"{self.store_url}/ones", "zarr", (1024, depth), "float64", (1024, 256), layout="raw", fill_value="1")
        out = MatrixRef(f"{self.store_url}/matrices/slow{index}", "zarr", (1024, 1024), "float64", (1024, 1024), is_ours=True)
        b = Operand(a, is_transposed=True)
        return self.job(index, Gemm(Operand(a), b, out, Rect(0, 1024, 0, 1024), 0, depth, 256, "float64"))

    async def send(self, *jobs: Job) -> None:
        """Put jobs into the queue."""
        await self.queues.jobs.send([encode(job) for job in jobs])

    async def hear(self, kind: type[T], is_it: Callable[[T], bool] = lambda _message: True) -> T:
        """The first message of that kind, heard before or from now on, for which ``is_it`` is true."""
        looked_at = 0
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for message in self.heard[looked_at:]:
                    if isinstance(message, kind) and is_it(message):
                        return message
                looked_at = len(self.heard)
                await self.listen()

    async def listen(self, wait_s: float = 1.0) -> None:
        """Take up what the workers said."""
        try:
            received = await self.queues.completions.receive(10, wait_s)
        except NotFound:
            await asyncio.sleep(0.1)
            return
        self.heard += [decode_worker(message.body) for message in received]
        await self.queues.completions.delete([message.handle for message in received])

    def beats(self, since: WorkerMessage) -> int:
        """How many heartbeats came after that message."""
        later = self.heard[self.heard.index(since) + 1 :]
        return sum(isinstance(message, WorkerHeartbeat) for message in later)

    async def done(self, job: Job) -> JobDone:
        """The completion of that job."""
        return await self.hear(JobDone, lambda message: (message.operation, message.stage, message.index) == job.key)

    async def failed(self, job: Job) -> JobFailed:
        """The failure of that job."""
        return await self.hear(JobFailed, lambda message: (message.operation, message.stage, message.index) == job.key)

    async def control(self, *cancelled: str) -> None:
        """Say what the leader says."""
        await self.store.put("control/000001.json", to_json(Control(1, 0.0, self.fleet, "test", "0", cancelled)))

    async def jobs_gone(self) -> None:
        """Wait until every job message is deleted, which happens after its completion was sent."""
        async with asyncio.timeout(DEADLINE_S):
            while await self.queues.jobs.count() != (0, 0):  # noqa: ASYNC110 - SQS sets no events
                await asyncio.sleep(0.02)

    async def exit_status(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end of a worker."""
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.to_thread(process.wait)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something that has no message."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():  # noqa: ASYNC110 - files and processes set no events
                await asyncio.sleep(0.02)


@asynccontextmanager
async def scene(directory: Path, fleet: str, endpoint_url: str, lease_s: int = 10) -> AsyncIterator[Scene]:
    """A fleet with queues; its workers end with the block."""
    made = Scene(directory, fleet, endpoint_url, lease_s)
    try:
        async with made.queues:
            await made.queues.ensure()
            yield made
    finally:
        for process in made.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
