"""The embedded deployment's supervisor: starts the stand-in, the coordinator and the workers, and watches over them.

The rules: it lives while a client holds it, while it is pinned, or while an operation is open, and a short grace longer;
when it goes, by whatever way, its children go. docs/explanation/embedded-deployment.md has the table of situations.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog

from coordinator.runtime.children import Child, rotate
from coordinator.runtime.embedded import (
    COORDINATOR,
    QUEUES,
    ChildSpec,
    Keys,
    child_specs,
    config_texts,
    is_idle,
    this_machine,
)
from tilefleet import logs
from tilefleet.config import Config, load, parse
from tilefleet.errors import BadConfig, ErrorInfo, TilefleetError
from tilefleet.local import LOCK_VARIABLE
from tilefleet.local_state import Answer, Deployment, Request, StateFiles, read_deployment, take_lock, write_private
from tilefleet.version import __version__

HOST = "127.0.0.1"
GRACE_S = 2.0  # between commands of a script the deployment stays up
LOOK_S = 0.25  # how often it looks whether it is still needed
LOG_CHECK_S = 5.0
START_DEADLINE_S = 50.0  # below the client's 60 s, so that the client hears which child was late
STOP_DEADLINE_S = 15.0  # the daemons' own drain deadline is 10 s, and then they give back what they hold
UNREADY_STOP_DEADLINE_S = 1.0  # what never said that it is ready holds nothing
_log = structlog.get_logger()


class Supervisor:
    """One run of a deployment, from start to stop."""

    def __init__(self, config: Config, files: StateFiles) -> None:
        before = read_deployment(files)  # lies there when the last supervisor crashed: its clients know that port and key
        self._files = files
        self._holders: set[asyncio.StreamWriter] = set()
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        self._is_ready = False
        self._stop = asyncio.Event()
        self._error: TilefleetError | None = None
        self._keys = Keys(before.access_key, before.secret_key) if before else Keys(secrets.token_hex(16), secrets.token_hex(20))
        port = free_port(before)
        self._parent_pipe, self._pipe_end = os.pipe()  # never written to: its end is the message
        machine = this_machine()
        endpoint_url = f"http://{HOST}:{port}"
        for path, text in config_texts(config, files, machine, endpoint_url).items():
            write_private(path, text.encode())
        self._children = [self._child(spec) for spec in child_specs(config, files, port, os.environ, self._keys)]
        self._deployment = Deployment(
            pid=os.getpid(),
            version=__version__,
            state_dir=os.fspath(files.root),
            store_url=files.store.as_uri(),
            logs_dir=os.fspath(files.logs),
            config_path=os.fspath(files.config("daemon")),
            endpoint_url=endpoint_url,
            access_key=self._keys.access_key,
            secret_key=self._keys.secret_key,
            workers=config.local.workers,
            started_at=time.time(),
            is_pinned=before is not None and before.is_pinned,
        )

    def _child(self, spec: ChildSpec) -> Child:
        return Child(spec, self._files.log(spec.name), self._files.socket(f"notify-{spec.name}"), self._parent_pipe)

    async def run(self) -> int:
        """The whole life of the deployment; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        address = self._files.socket("supervisor")
        address.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, os.fspath(address))
        address.chmod(0o600)  # until now its directory kept others out
        tasks = [self._task(child.run(), f"run {child.name}") for child in self._children]
        tasks += [self._task(work(), work.__name__) for work in (self._become_ready, self._watch_need, self._watch_logs)]
        try:
            await self._stop.wait()
        finally:
            server.close()
            address.unlink(missing_ok=True)  # from here a new client waits for the lock and starts another
            self._tell(Answer("failed", error=ErrorInfo.of(self._error)) if self._error else Answer("stopping"), self._holders)
            await self._stop_children()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(OSError):
                self._clean()
            await self._close_clients()
        return self._error.exit_code if self._error else 0

    async def _become_ready(self) -> None:
        """Wait until all children say that they are ready, then tell the clients."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                for child in self._children:
                    await child.ready.wait()
        except TimeoutError:
            late = next(child for child in self._children if not child.ready.is_set())
            self._fail(late.failure(f"was not ready after {START_DEADLINE_S:.0f} s"))
            return
        self._is_ready = True
        self._publish()
        _log.info("deployment_ready", endpoint=self._deployment.endpoint_url, start_s=round(time.monotonic() - started, 3))
        self._tell(Answer("ready", self._deployment), self._holders)

    def _task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._guard(work, name), name=name)

    async def _guard(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A deployment of which one part fails stops as a whole, and says why: nothing may stay behind half-alive."""
        try:
            await work
        except TilefleetError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - such as a state directory that was removed under us
            self._fail(TilefleetError(f"the embedded deployment cannot go on ({name}): {error}"))

    def _fail(self, error: TilefleetError) -> None:
        if not self._stop.is_set():
            _log.error("deployment_failed", error=str(error))
            self._error = error
            self._stop.set()

    async def _watch_need(self) -> None:
        """Stop when nobody has needed the deployment for the grace; keep the file's process ids true meanwhile."""
        needed_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            if self._is_ready:
                with contextlib.suppress(OSError):  # the disk is full: it is written at one of the next looks
                    self._publish()
            if self._holders or self._deployment.is_pinned or not is_idle(self._files.store, time.time()):
                needed_at = time.monotonic()
            elif time.monotonic() - needed_at > GRACE_S:
                _log.info("deployment_idle")
                self._stop.set()
                return

    async def _watch_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            for log in [self._files.supervisor_log, *(child.log for child in self._children)]:
                with contextlib.suppress(OSError):  # somebody removed it, or the disk is full: not worth ending for
                    await asyncio.to_thread(rotate, log)

    async def _stop_children(self) -> None:
        """Workers, then the coordinator that hears their last words, then the queues."""
        _log.info("deployment_stopping")
        for names in ({child.name for child in self._children} - {QUEUES, COORDINATOR}, {COORDINATOR}, {QUEUES}):
            await asyncio.gather(*(child.stop(_stop_deadline_s(child)) for child in self._children if child.name in names))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients[writer] = asyncio.current_task()
        try:
            while line := await reader.readline():
                self._answer(msgspec.json.decode(line, type=Request), writer)
        except (msgspec.DecodeError, ConnectionError, ValueError):
            _log.warning("client_not_understood")
        finally:
            self._holders.discard(writer)
            if not self._stop.is_set():  # a stopping supervisor closes only when all is down: that is what "stop" waits for
                del self._clients[writer]
                writer.close()

    async def _close_clients(self) -> None:
        for writer in self._clients:
            writer.close()
        if handlers := [task for task in self._clients.values() if task is not None]:
            await asyncio.wait(handlers, timeout=1.0)

    def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        match request.do:
            case "hold":
                self._holders.add(writer)
                if self._is_ready:
                    self._tell(Answer("ready", self._deployment), {writer})
            case "pin" | "unpin":
                self._deployment = msgspec.structs.replace(self._deployment, is_pinned=request.do == "pin")
                self._tell(Answer("pinned" if self._deployment.is_pinned else "unpinned"), {writer})
            case "tell":  # one that is lost lies in the store, where a coordinator looks when it starts, and now and then
                next(child for child in self._children if child.name == COORDINATOR).say(request.message)
            case "stop":
                self._stop.set()

    def _tell(self, answer: Answer, writers: set[asyncio.StreamWriter]) -> None:
        for writer in writers:
            writer.write(msgspec.json.encode(answer) + b"\n")

    def _publish(self) -> None:
        """Rewrite deployment.json when it is not true any more."""
        pids = {child.name: child.process.pid for child in self._children if child.process and child.process.returncode is None}
        now = msgspec.structs.replace(self._deployment, children=pids)
        if now != self._deployment or not self._files.deployment.exists():
            write_private(self._files.deployment, msgspec.json.format(msgspec.json.encode(now)))
            self._deployment = now

    def _clean(self) -> None:
        """Leave nothing in run/ but the lock, which must not be removed while somebody may wait for it."""
        for path in self._files.run.iterdir():
            if path != self._files.lock:
                path.unlink()
        if self._files.sockets != self._files.run:
            with contextlib.suppress(OSError):
                self._files.sockets.rmdir()


def _stop_deadline_s(child: Child) -> float:
    return STOP_DEADLINE_S if child.ready.is_set() else UNREADY_STOP_DEADLINE_S


def free_port(before: Deployment | None) -> int:
    """The port of the deployment that crashed, when it is free (its stand-in may take a moment to die), else any."""
    if before is not None:
        port = int(before.endpoint_url.rpartition(":")[2])
        for _ in range(20):
            with contextlib.suppress(OSError):
                return _bindable(port)
            time.sleep(0.1)
    return _bindable(0)


def _bindable(port: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        number: int = probe.getsockname()[1]
        return number


def _lock(files: StateFiles) -> int:
    """The lock, from the client that started us or by ourselves; with our pid in it."""
    handed = os.environ.pop(LOCK_VARIABLE, "")
    lock = int(handed) if handed.isdigit() else take_lock(files)
    if lock is None:
        raise BadConfig(f"an embedded deployment is already running in {files.root}")
    os.set_inheritable(lock, False)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _configuration(path: str) -> Config:
    if path != "-":
        return load(Path(path))
    config, mistakes = parse(sys.stdin.read())
    if mistakes:
        raise BadConfig("; ".join(f"{mistake.key}: {mistake.problem}" for mistake in mistakes))
    return config


def main() -> None:
    """``python -m coordinator.runtime.supervisor --config FILE|- --state-dir D``; usually started by a client."""
    parser = argparse.ArgumentParser(prog="supervisor", description="the embedded deployment of one state directory")
    parser.add_argument("--config", required=True, help="a TOML file, or - for standard input")
    parser.add_argument("--state-dir", required=True, type=Path)
    arguments = parser.parse_args()
    files = StateFiles(Path(os.path.abspath(arguments.state_dir)))  # noqa: PTH100 - as the client names it: no link resolved
    try:
        config = _configuration(arguments.config)
        files.make()
        _lock(files)
        logs.setup(config.log.level, component="supervisor")
        status = asyncio.run(Supervisor(config, files).run())
    except TilefleetError as error:
        sys.stderr.write(f"{error}\n")
        status = error.exit_code
    sys.exit(status)


if __name__ == "__main__":
    main()
