"""coordinator: ``coordinator --config F``. The composition root, and the only place that knows signals and exit statuses.

Exit statuses: 0 drained; 10 bad config; 5 not allowed; 7 store or queues unreachable at start; 70 parent gone; 75 left at
once on the second signal; 1 a bug.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tilefleet import logs
from tilefleet.account import resolved
from tilefleet.config import Config, load
from tilefleet.errors import BadConfig, TilefleetError
from tilefleet.parent import watch_parent
from tilefleet.sd_notify import READY, STOPPING, WATCHDOG, notify, watchdog_interval_s
from tilefleet.version import __version__

if TYPE_CHECKING:
    from coordinator.runtime.shell import Shell
    from tilefleet.store import Store

log = structlog.get_logger()

START_TIMEOUT_S = 60.0  # for the store and the queues to answer for the first time
LINGER_S = 0.03  # obstore's threads may still wake the event loop
LEFT_AT_ONCE = 75
KEEPER_S = 5.0  # for the keeper to let go of the fleet's turn


def main() -> None:
    """Run the daemon; does not return."""
    watch_parent()
    try:
        arguments = _parser().parse_args()
        path = Path(arguments.config)
        config = _checked(load(path), path)
        logs.setup(config.log.level, daemon="coordinator", fleet=config.fleet.name)
        asyncio.run(_run(config, path, is_told=arguments.hear_stdin))
    except TilefleetError as error:
        print(f"coordinator: {error}", file=sys.stderr)  # noqa: T201 - before and after the log there is only stderr
        _exit(error.exit_code)
    _exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coordinator", description="Plans operations and hands out their jobs until told to stop."
    )
    default = os.environ.get("TILEFLEET_CONFIG")
    parser.add_argument("--config", default=default, required=default is None, help="TOML file; TILEFLEET_CONFIG otherwise")
    parser.add_argument(
        "--hear-stdin", action="store_true", help="take clients' messages from standard input too, a line of JSON each"
    )
    parser.add_argument("--version", action="version", version=f"coordinator {__version__}")
    return parser


def _checked(config: Config, path: Path) -> Config:
    if not config.store.url:
        raise BadConfig(
            f'{path}: store.url: a coordinator needs the object store; write url = "s3://bucket/prefix" under [store]'
        )
    return resolved(config)


def _exit(status: int) -> None:
    logs.flush()
    os._exit(status)  # obstore's threads must not meet an interpreter that is going away


async def _run(config: Config, path: Path, *, is_told: bool) -> None:
    from coordinator.runtime.leadership import newest_epoch, take_lead
    from coordinator.runtime.shell import Shell
    from tilefleet.backoff import persist
    from tilefleet.sqs import SqsQueues
    from tilefleet.store import Stores

    stopping, shells = asyncio.Event(), list[Shell]()
    _handle_signals(stopping, path, shells)
    stores = Stores(config.store)
    store = stores.open(config.store.url)
    lines = await _stdin() if is_told else None
    watchdog = asyncio.create_task(_feed_watchdog(), name="watchdog")
    queues = SqsQueues(config.queues, config.fleet.name)
    await queues.__aenter__()  # left by _exit: a poll that is under way would hold a clean end up for its whole wait

    async def reach() -> None:
        await queues.ensure()
        await newest_epoch(store)

    if await _unless(stopping, persist(reach, for_s=START_TIMEOUT_S)):
        notify(READY)
        log.info("started", version=__version__, store=config.store.url)
    while not stopping.is_set():
        epoch = await take_lead(store, config.coordinator.beacon.s, stopping)
        if epoch is None:
            break
        shell = Shell(config, store, stores, queues, epoch, lines)
        shells[:] = [shell]
        keeper = _keeper(config, store)
        is_told_to_stop = await shell.run(stopping)
        keeper.cancel()
        await asyncio.wait({keeper}, timeout=KEEPER_S)  # what it has begun and cannot end now is gone on with by the next
        if is_told_to_stop:
            await shell.resign()
    watchdog.cancel()
    log.info("stopped")
    await asyncio.sleep(LINGER_S)


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _keeper(config: Config, store: Store) -> asyncio.Task[None]:
    """Looks after the fleet's machines, where the configuration names any; it ends with the lead."""

    async def keep() -> None:
        if config.nodes.provider != "none":
            from coordinator.fleet import keeper

            await keeper.keep(config, store)

    return asyncio.create_task(keep(), name="keeper")


async def _unless(stopping: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Wait for the work, but not through a stop; True when it was done. Raises what it raises."""
    doing, told = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    await asyncio.wait((doing, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not doing.done():
        doing.cancel()
        return False
    await doing
    return True


def _handle_signals(stopping: asyncio.Event, path: Path, shells: list[Shell]) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            _exit(LEFT_AT_ONCE)
        notify(STOPPING)
        log.info("stopping")
        stopping.set()

    def reload() -> None:
        try:
            config = _checked(load(path), path)
        except TilefleetError as error:
            log.error("reload_refused", error=str(error))
            return
        logs.setup(config.log.level, daemon="coordinator", fleet=config.fleet.name)
        for shell in shells:
            shell.reload(config)
        log.info("reloaded")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)


async def _feed_watchdog() -> None:
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        notify(WATCHDOG)
        await asyncio.sleep(interval_s)


if __name__ == "__main__":
    main()
