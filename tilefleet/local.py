"""The embedded deployment as a client sees it: start it when none runs, hold it up, stop it.

The rule: a client never starts or signals daemons itself. It starts the supervisor (``coordinator.runtime.supervisor``),
detached, and talks to it over a unix socket; an open connection means that somebody needs the deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import msgspec

from tilefleet.config import Config, QueuesSection, StoreSection
from tilefleet.errors import TilefleetError, Unreachable
from tilefleet.local_state import (
    Answer,
    Deployment,
    Request,
    StateFiles,
    check_room,
    last_lines,
    open_log,
    read_deployment,
    supervisor_pid,
    take_lock,
)
from tilefleet.messages import ClientMessage, encode
from tilefleet.toml import to_toml

__all__ = ["Deployment", "Hold", "hold", "running", "shut_down", "state_dir"]

REGION = "us-east-1"
READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 60.0
POLL_S = 0.02
LOCK_VARIABLE = "TILEFLEET_LOCK_FD"  # the lock is taken by the client and handed to the supervisor, so it is never free between


def state_dir(config: Config) -> Path:
    """Where the embedded deployment keeps its store and logs: ``TILEFLEET_STATE``, else local.state_dir, else the user's data."""
    chosen = os.environ.get("TILEFLEET_STATE") or config.local.state_dir
    if chosen:
        return Path(os.path.abspath(Path(chosen).expanduser()))  # noqa: PTH100 - no link is resolved: it is named as the user did
    import platformdirs

    return Path(platformdirs.user_data_dir("tilefleet"))


def running(config: Config) -> Deployment | None:
    """The deployment that is up and was ready for this configuration's state directory. Reads only; starts nothing."""
    files = StateFiles(state_dir(config))
    deployment = read_deployment(files)
    return deployment if deployment is not None and deployment.pid == supervisor_pid(files) else None


def local_store(config: Config, url: str) -> StoreSection:
    """[store] of everything that belongs to an embedded deployment; endpoint and region are those of ``s3://`` operands."""
    return msgspec.structs.replace(config.store, url=url, allow_local_files=True)


def local_queues(config: Config, endpoint_url: str) -> QueuesSection:
    """[queues] of everything that belongs to an embedded deployment."""
    return msgspec.structs.replace(config.queues, endpoint_url=endpoint_url, region=REGION)


async def shut_down(config: Config) -> bool:
    """Stop the deployment, pinned or not, whoever holds it. False when none was running.

    Waits until it is gone. A supervisor that does not answer in time is killed, and its children end with it.
    """
    files = StateFiles(state_dir(config))
    if supervisor_pid(files) is None:
        return False
    pid = 0  # until a supervisor that is just starting has written its own
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_DEADLINE_S):
            while (now := supervisor_pid(files)) is not None and pid in (0, now):  # another pid: somebody started it anew
                pid = now
                with contextlib.suppress(OSError):
                    await _ask_to_stop(files)
                await asyncio.sleep(POLL_S)
            return True
    if pid and pid == supervisor_pid(files):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return True


async def _ask_to_stop(files: StateFiles) -> None:
    reader, writer = await asyncio.open_unix_connection(os.fspath(files.socket("supervisor")))
    try:
        writer.write(_line(Request("stop")))
        await reader.read()  # until the supervisor closes: it does so when all is down
    finally:
        writer.close()


class Hold:
    """Keeps the deployment up: ``async with Hold(config) as deployment: …``. Starts it when none runs.

    Raises the error of the child that could not start (with its last log lines), NotAllowed when the state directory cannot
    be used, and Unreachable when it is not ready within 60 s. When the supervisor crashes in between, it is started again
    under the same endpoint and keys; ``gone`` is set when somebody stopped the deployment or it cannot be brought back.
    """

    def __init__(self, config: Config, pin: bool = False) -> None:
        self._config = config
        self._is_pin = pin
        self._files = StateFiles(state_dir(config))
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._writer: asyncio.StreamWriter | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.error: TilefleetError | None = None
        """Why it is gone, in words for the user."""

    async def __aenter__(self) -> Deployment:
        reader, deployment = await self._connect()
        self._keeper = asyncio.create_task(self._keep(reader), name="hold-deployment")
        return deployment

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._close()

    async def tell(self, message: ClientMessage) -> None:
        """Give the coordinator a message, without the way through its queue: this needs no client of SQS, which takes a
        command longer to load than all the rest of it. Raises Unreachable."""
        try:
            if self._writer is None:
                raise ConnectionError
            self._writer.write(_line(Request("tell", encode(message))))
            await self._writer.drain()
        except ConnectionError:
            raise self.error or Unreachable("the embedded deployment is being started again") from None

    async def _connect(self) -> tuple[asyncio.StreamReader, Deployment]:
        await asyncio.to_thread(self._files.make)
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                while True:
                    answer = await self._try()
                    if answer is not None:
                        return answer
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise Unreachable(
                f"the embedded deployment was not ready after {READY_DEADLINE_S:.0f} s; its logs are in {self._files.logs}"
            ) from None

    async def _try(self) -> tuple[asyncio.StreamReader, Deployment] | None:
        """One go at the socket. None when the supervisor is starting, or stopping, or was just started."""
        try:
            reader, self._writer = await asyncio.open_unix_connection(os.fspath(self._files.socket("supervisor")))
            self._writer.write(_line(Request("hold")))
            if self._is_pin:
                self._writer.write(_line(Request("pin")))
            deployment = await self._hello(reader)
        except OSError:  # nobody listens
            self._start_supervisor()
            return None
        except BaseException:
            self._close()
            raise
        if deployment is None:
            self._close()
            return None
        self._process = None  # its start is over; should it die now, that is a crash and not a failed start
        return reader, deployment

    async def _hello(self, reader: asyncio.StreamReader) -> Deployment | None:
        """Wait for readiness; None when the connection ended first, as it does when the supervisor was stopping just then."""
        is_pinned = not self._is_pin
        deployment: Deployment | None = None
        while deployment is None or not is_pinned:
            answer = await _read_answer(reader)
            if answer is None or answer.state == "stopping":
                return None
            if answer.error is not None:
                raise answer.error.to_exception()
            deployment = answer.deployment or deployment
            is_pinned = is_pinned or answer.state == "pinned"
        return deployment

    def _start_supervisor(self) -> None:
        if self._process is not None and (status := self._process.poll()) is not None:
            self._process = None
            if status:
                raise _supervisor_error(self._files, status, self._log_start)
        lock = take_lock(self._files)
        if lock is None:
            return
        try:
            check_room(self._files)
            with open_log(self._files.supervisor_log) as log:
                self._log_start = log.tell()
                self._process = _spawn(self._config, self._files, lock, log.fileno())
        finally:
            os.close(lock)  # the supervisor has its own copy

    async def _keep(self, reader: asyncio.StreamReader) -> None:
        """Bring the deployment back when its supervisor crashed; note when it was stopped."""
        while True:
            if await _read_answer(reader) is not None:  # only "stopping" comes unasked
                self.error = Unreachable("the embedded deployment was stopped by 'tilefleet local down' or a signal")
                break
            self._close()
            try:
                reader, _ = await self._connect()
            except TilefleetError as error:
                self.error = error
                break
        self.gone.set()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


hold = Hold


def _spawn(config: Config, files: StateFiles, lock: int, log: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-P",
        "-m",
        "coordinator.runtime.supervisor",
        "--config",
        "-",
        "--state-dir",
        os.fspath(files.root),
    ]
    local = msgspec.structs.replace(config.local, state_dir="")  # said on the command line, where any bytes may stand
    stdin_read, stdin_write = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=stdin_read,
            stdout=log,
            stderr=log,
            cwd=files.root,
            env={**os.environ, LOCK_VARIABLE: str(lock)},
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C in the client's terminal is not for the daemons
        )
    except BaseException:
        os.close(stdin_write)
        raise
    finally:
        os.close(stdin_read)
    threading.Thread(target=process.wait, name="reap-supervisor", daemon=True).start()  # a notebook outlives many of them
    with contextlib.suppress(BrokenPipeError), os.fdopen(stdin_write, "wb") as pipe:
        pipe.write(to_toml(msgspec.structs.replace(config, local=local)).encode())
    return process


def _supervisor_error(files: StateFiles, status: int, log_start: int) -> TilefleetError:
    said = "\n".join(last_lines(files.supervisor_log, start=log_start))
    return TilefleetError(
        f"the embedded deployment could not start (its supervisor ended with status {status}); the end of "
        f"{files.supervisor_log}:\n{said or '(nothing was written)'}"
    )


async def _read_answer(reader: asyncio.StreamReader) -> Answer | None:
    try:
        line = await reader.readline()
    except (ConnectionError, ValueError):
        return None
    try:
        return msgspec.json.decode(line, type=Answer) if line else None
    except (msgspec.DecodeError, UnicodeError):
        raise Unreachable(
            "an embedded deployment of another tilefleet version is running; stop it with 'tilefleet local down'"
        ) from None


def _line(message: msgspec.Struct) -> bytes:
    return msgspec.json.encode(message) + b"\n"
