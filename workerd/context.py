"""What a job may touch: the store (timed, retried, and only where it is allowed), the compute slot, and the stop sign.

Every access of a job to the outside goes through its Context, so that no job forgets to retry, to measure or to ask.
"""

from __future__ import annotations

import asyncio
import hashlib
import os.path
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from tilefleet import layout
from tilefleet.backoff import persist
from tilefleet.credentials import outlast
from tilefleet.errors import Cancelled, NotAllowed
from tilefleet.facts import Facts, decode_facts
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Job, JobTimes
from tilefleet.reading import Reader
from tilefleet.store import Buffer, Store, Stores, path_of
from tilefleet.writing import write_tiles
from workerd.compute import Compute
from workerd.spares import Spares

STORE_PATIENCE_S = 30.0  # a store that is away for longer fails the attempt; the coordinator sends another
DENIED_PATIENCE_S = 60.0  # so does a permission that is missing for longer: four attempts, perhaps on other nodes, outlast a slip

T = TypeVar("T")


class Outcome(NamedTuple):
    """What a finished job reports beside its times."""

    facts: Facts | None = None
    check_worst: float | None = None


class Stopwatch:
    """Collects ``JobTimes``. Phases overlap, and so do their sums."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._spans: list[tuple[str, float, float]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time the block takes to ``<name>_s``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add_span(name, began, time.perf_counter())

    def add_span(self, name: str, began: float, ended: float) -> None:
        """Add the time between two readings of ``time.perf_counter``, and remember when that was."""
        self.add_s(name, ended - began)
        self._spans.append((name, began - self._began, ended - self._began))

    def add_s(self, name: str, seconds: float) -> None:
        self._sums[f"{name}_s"] = self._sums.get(f"{name}_s", 0.0) + seconds

    def spans(self) -> list[tuple[str, float, float]]:
        """What was done when: phase, and seconds since the attempt's start at which it began and ended."""
        return [(name, round(began, 6), round(ended, 6)) for name, began, ended in self._spans]

    def count(self, name: str, n: int) -> None:
        """Add to ``bytes_read``, ``bytes_written`` or ``flops``."""
        self._counts[name] = self._counts.get(name, 0) + n

    def times(self) -> JobTimes:
        rounded = {name: round(seconds, 6) for name, seconds in self._sums.items()}
        return msgspec.convert({"total_s": round(time.perf_counter() - self._began, 6), **rounded, **self._counts}, JobTimes)


class Surroundings(NamedTuple):
    """What all jobs of a worker share."""

    stores: Stores
    store_url: str
    """The deployment's store: small facts about jobs go there, and its files may always be read and written."""
    reader: Reader
    compute: Compute
    allow_local_files: bool
    concurrency: int
    spares: Spares
    is_cancelled: Callable[[str], bool] = lambda _operation: False


class Context:
    """One attempt at one job."""

    def __init__(self, job: Job, surroundings: Surroundings, seniority: int = 0) -> None:
        self.job = job
        self.clock = Stopwatch()
        self._around = surroundings
        self._seniority = seniority

    @property
    def stores(self) -> Stores:
        """For library calls that open several places; ``locate`` each first, it says whether that is allowed."""
        return self._around.stores

    @property
    def spares(self) -> Spares:
        """Buffers that earlier jobs left."""
        return self._around.spares

    @property
    def seed(self) -> int:
        """Of the job's own check vectors: different for each attempt, so that an unlucky one is not repeated."""
        name = f"{self.job.operation}/{self.job.stage}/{self.job.index}/{self.job.attempt}"
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")

    def checkpoint(self) -> None:
        """Raises Cancelled when the operation was cancelled meanwhile."""
        if self._around.is_cancelled(self.job.operation):
            raise Cancelled(f"operation {self.job.operation} was cancelled")

    async def compute(self, call: Callable[[], T], phase: str = "computed") -> T:
        """The call's result, from the compute thread."""
        self.checkpoint()
        began = time.perf_counter()
        answer, ran_s = await self._around.compute(self._seniority, call)
        ended = time.perf_counter()
        self.clock.add_span(phase, ended - ran_s, ended)
        self.clock.add_s("waited", max(0.0, ended - began - ran_s))
        return answer

    async def read(self, operand: Operand, rect: Rect, buffer: np.ndarray | None = None) -> np.ndarray:
        """``rect`` of op(X), shape ``rect.shape``; a transposed operand is read as stored and returned as a view.

        ``buffer``: one-dimensional, of the operand's dtype and at least ``rect.size`` long; the view then lies in it.
        """
        stored = rect.transposed if operand.is_transposed else rect
        out = None if buffer is None else buffer[: rect.size].reshape(stored.shape)
        self._check(operand.matrix.url)
        array = await self.fetch(lambda: self._around.reader.read(operand.matrix, stored, out=out))
        self.clock.count("bytes_read", array.nbytes)
        return array.T if operand.is_transposed else array

    async def read_bytes(self, ref: MatrixRef, start: int, end: int) -> Buffer:
        """Bytes [start, end) of the file of a matrix."""
        store, key = self.locate(ref.url)
        data = await self.fetch(lambda: store.get_range(key, start, end))
        self.clock.count("bytes_read", len(data))
        return data

    async def get(self, url: str) -> Buffer:
        """A whole object. Raises NotFound."""
        store, key = self.locate(url)
        data = await self.fetch(lambda: store.get(key))
        self.clock.count("bytes_read", len(data))
        return data

    async def write(self, ref: MatrixRef, rect: Rect, block: np.ndarray) -> None:
        """Commit the tiles of a block; those of this operation that are there already stay."""
        store, operation, n = self.open(ref.url), self.job.operation, self._around.concurrency
        self.checkpoint()
        n_bytes = await self.commit(lambda: write_tiles(store, ref, rect, block, operation=operation, concurrency=n))
        self.clock.count("bytes_written", n_bytes)

    async def put_new(self, url: str, data: Buffer) -> bool:
        """Create one object; False when it was there."""
        store, key = self.locate(url)
        is_new = await self.commit(lambda: store.put_new(key, data))
        self.clock.count("bytes_written", memoryview(data).nbytes if is_new else 0)
        return is_new

    async def commit(self, call: Callable[[], Awaitable[T]]) -> T:
        """A repeatable call that writes, timed as such."""
        with self.clock.phase("committed"):
            return await self.patiently(call)

    async def report(self, facts: Facts, url: str | None = None) -> Outcome:
        """Commit what a job found: at ``url``, else under the operation's facts. The first writer's word counts."""
        url = url or self.facts_url
        if not await self.put_new(url, msgspec.json.encode(facts)):
            return Outcome(decode_facts(bytes(await self.get(url))))
        return Outcome(facts)

    @property
    def facts_url(self) -> str:
        """Where the facts (or the mark that it is done) of a job lie whose work names no place for them."""
        key = layout.indexed(layout.facts(self.job.operation, self.job.stage), self.job.index)
        return f"{self._around.store_url.rstrip('/')}/{key}"

    async def exists(self, url: str) -> bool:
        """Whether there is an object at a URL."""
        store, key = self.locate(url)
        return await self.fetch(lambda: store.head(key)) is not None

    def open(self, url: str) -> Store:
        """The store rooted at a URL. Raises NotAllowed for a local path that is none of this worker's business."""
        self._check(url)
        return self._around.stores.open(url)

    def locate(self, url: str) -> tuple[Store, str]:
        """The store above a URL, and the key in it. Raises NotAllowed like ``open``."""
        self._check(url)
        return self._around.stores.locate(url)

    async def fetch(self, call: Callable[[], Awaitable[T]]) -> T:
        """A repeatable call that reads, timed as such."""
        with self.clock.phase("fetched"):
            return await self.patiently(call)

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """A repeatable call, made again while the store is away; untimed.

        Credentials that expired and a clock that is wrong are no fault of the job: it waits for better ones, unless it is
        cancelled or given back.
        """
        patient = partial(persist, call, for_s=STORE_PATIENCE_S)
        return await outlast(patient, check=self.checkpoint, denied_for_s=DENIED_PATIENCE_S)

    def _check(self, url: str) -> None:
        around = self._around
        if url.startswith("file:") and not around.allow_local_files and not is_below(url, around.store_url):
            raise NotAllowed(
                f"workers of this fleet may not touch local files such as {url}; "
                "put the matrix into the store, or set store.allow_local_files = true on machines that share the disk"
            )


def is_below(url: str, above: str) -> bool:
    """Whether a ``file:`` URL lies inside the directory of another, whatever ``..`` it contains."""
    if not above.startswith("file:"):
        return False
    path, directory = (os.path.normpath(path_of(each)) for each in (url, above))
    return os.path.commonpath([path, directory]) == directory


async def prefetched(calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> AsyncGenerator[T, None]:
    """The answers in order; the next call is under way while the caller works on the last answer.

    Use it under ``contextlib.aclosing``, which stops the call ahead when the caller leaves early.
    """
    ahead: asyncio.Future[T] | None = None
    try:
        for n in range(len(calls)):
            current = ahead or asyncio.ensure_future(calls[n]())
            ahead = None
            answer = await _waited_for(current)
            ahead = asyncio.ensure_future(calls[n + 1]()) if n + 1 < len(calls) else None
            yield answer
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


async def _waited_for(future: asyncio.Future[T]) -> T:
    try:
        return await future
    except asyncio.CancelledError:
        future.cancel()
        await asyncio.gather(future, return_exceptions=True)
        raise
