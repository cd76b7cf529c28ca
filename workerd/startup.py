"""From a configuration to a running worker, and from its end to an exit status; signals are handled here.

SIGTERM or SIGINT drains; the second one leaves at once. SIGHUP reads the configuration again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import structlog

from tilefleet import ids, logs
from tilefleet.backoff import Backoff, persist
from tilefleet.config import Config
from tilefleet.errors import NotFound, TilefleetError, Unreachable
from tilefleet.messages import WorkerHello
from tilefleet.version import __version__
from workerd import machine

log = structlog.get_logger()
T = TypeVar("T")

DRAINED, LEFT_WORK = 0, 75  # 75 is EX_TEMPFAIL: somebody else will do what was given back
RELOADABLE = ("log.level", "worker.heartbeat", "worker.drain", "worker.concurrency")


async def run(config: Config, configured: Callable[[], Config], start_timeout_s: float) -> int:
    """The exit status. Raises the TilefleetError that keeps the worker from starting."""
    own = machine.prepare(config.worker)
    name, incarnation = config.worker.name or socket.gethostname(), ids.encode(os.urandom(8), 8)
    logs.setup(config.log.level, worker=name)
    log.info("worker_starting", version=__version__, incarnation=incarnation, cores=own.cores, pid=os.getpid())

    from tilefleet.reading import Reader
    from tilefleet.sqs import SqsQueues
    from tilefleet.store import Stores
    from workerd import measure
    from workerd.budget import Budget
    from workerd.compute import Compute
    from workerd.context import Surroundings
    from workerd.control import ControlWatch
    from workerd.pipeline import SLOTS, Worker

    stores = Stores(config.store)
    store, reader = stores.open(config.store.url), Reader(stores, concurrency=config.worker.concurrency)
    async with SqsQueues(config.queues, config.fleet.name) as queues:
        flops = await asyncio.to_thread(measure.flops_per_s)
        base_bytes = machine.rss_bytes() + machine.LATER_IMPORTS_BYTES
        memory_bytes = machine.job_memory(own.memory_bytes, base_bytes)
        reading, _ = await asyncio.gather(
            _awaited(lambda: measure.bytes_per_s(store, reader, incarnation), start_timeout_s),
            _awaited(queues.resolve, start_timeout_s),
        )
        log.info("worker_measured", memory_bytes=memory_bytes, base_bytes=base_bytes, flops_per_s=flops, bytes_per_s=reading)
        hello = WorkerHello(config.fleet.name, name, incarnation, __version__, own.cores, memory_bytes, flops, reading, SLOTS)
        budget = Budget(memory_bytes, overhead_bytes=own.memory_bytes - memory_bytes)
        around = Surroundings(
            stores, config.store.url, reader, Compute(), config.store.allow_local_files, config.worker.concurrency, budget.spares
        )
        measured_again = partial(measure.speeds, store, reader, incarnation)
        worker = Worker(config, queues, hello, budget, around, ControlWatch(store), measured_again)
        _handle_signals(worker.stop, lambda: _reload(worker.reload, config, configured, name))
        is_clean = await worker.run()
    await asyncio.sleep(0.03)  # obstore's threads may wake the loop until 20 ms after the last await
    status = DRAINED if is_clean else LEFT_WORK
    log.info("worker_stopped", status=status)
    return status


async def _awaited(call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
    """The answer of a service that may be starting at the same time. Raises Unreachable or NotAllowed."""

    async def logged() -> T:
        try:
            return await call()
        except TilefleetError as error:
            log.info("waiting_to_start", code=error.code, error=str(error))
            raise

    try:
        return await persist(
            logged,
            for_s=timeout_s,
            backoff=Backoff(0.05, 2.0),
            is_worth_it=lambda error: isinstance(error, NotFound | Unreachable),
        )
    except NotFound as error:
        raise Unreachable(f"{error} (waited {timeout_s:g} s)") from error


def _handle_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    signals_seen = 0

    def leave() -> None:
        nonlocal signals_seen
        signals_seen += 1
        if signals_seen > 1:
            log.warning("left_at_once")
            logs.flush()
            os._exit(LEFT_WORK)
        stop()

    loop.add_signal_handler(signal.SIGTERM, leave)
    loop.add_signal_handler(signal.SIGINT, leave)
    loop.add_signal_handler(signal.SIGHUP, reload)


def _reload(apply: Callable[[Config], None], old: Config, configured: Callable[[], Config], name: str) -> None:
    """A file that cannot be used changes nothing."""
    try:
        new = configured()
    except TilefleetError as error:
        log.error("config_unusable", error=str(error))
        return
    logs.setup(new.log.level, worker=name)
    apply(new)
    log.info("config_reloaded", level=new.log.level, needs_restart=needs_restart(old, new))


def needs_restart(old: Config, new: Config) -> list[str]:
    """Keys that changed in the file but are only read at the start."""
    return [
        f"{section}.{key}"
        for section in old.__struct_fields__
        for key in getattr(old, section).__struct_fields__
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key) and f"{section}.{key}" not in RELOADABLE
    ]
