"""One process of the embedded deployment: started, known to be ready, started again when it ends, stopped.

The rules: a child says itself when it is ready (sd_notify); it is always restarted, with a growing pause, unless its
configuration cannot be used or it failed to become ready several times in a row; it is ended by its process id only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import msgspec
import structlog

from coordinator.runtime.embedded import ChildSpec, command_line
from tilefleet import parent, sd_notify
from tilefleet.errors import BadConfig, NotAllowed, TilefleetError, Unreachable
from tilefleet.local_state import last_lines, open_log

UNREAD_LIMIT_BYTES = 2**20
LOG_LIMIT_BYTES = 10 * 2**20
MOST_UNREADY_ENDS = 5  # in a row, then the deployment fails; with the pauses below that takes at least 3 s
STEADY_S = 10.0  # a child that lived this long starts again without a pause
_ERRORS: dict[int, type[TilefleetError]] = {cls.exit_code: cls for cls in (BadConfig, NotAllowed, Unreachable)}
_log = structlog.get_logger()


def pause_s(n_ends: int) -> float:
    """Before the n-th restart in a row: 0.1, 0.2, 0.4 … 5 s."""
    return min(5.0, 0.1 * 2.0 ** (n_ends - 1))


class Child:
    """Runs one child process until ``stop``; ``ready`` says whether its present incarnation is."""

    def __init__(self, spec: ChildSpec, log: Path, notify: Path, parent_pipe: int) -> None:
        self.name = spec.name
        self.log = log
        self.ready = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self._spec = spec
        self._notify = notify
        self._parent_pipe = parent_pipe
        self._log_start = 0
        self._is_stopping = False
        self._starting = asyncio.Lock()

    async def run(self) -> None:
        """Keep the process up. Returns after ``stop``; raises the error that says why it cannot be kept up."""
        transport = await self._listen()
        try:
            n_ends = n_unready = 0
            while not self._is_stopping:
                started = time.monotonic()
                status, was_ready = await self._run_once()
                if self._is_stopping:
                    break
                n_unready = 0 if was_ready else n_unready + 1
                _log.warning("child_ended", child=self.name, status=status, was_ready=was_ready)
                if status == BadConfig.exit_code or n_unready == MOST_UNREADY_ENDS:
                    raise self.failure(f"ended with status {status}", status)
                n_ends = 1 if time.monotonic() - started > STEADY_S else n_ends + 1
                await asyncio.sleep(pause_s(n_ends))
        finally:
            transport.close()
            self._notify.unlink(missing_ok=True)

    async def stop(self, deadline_s: float) -> None:
        """SIGTERM, and SIGKILL when that was not enough in time."""
        self._is_stopping = True
        async with self._starting:
            process = self.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), deadline_s)
        except TimeoutError:
            _log.warning("child_killed", child=self.name, pid=process.pid, deadline_s=deadline_s)
            self.kill()
            await process.wait()

    def say(self, line: str) -> None:
        """A line for its standard input; dropped when it does not live, or does not read."""
        stdin = self.process.stdin if self.process is not None and self.process.returncode is None else None
        if stdin is not None and stdin.transport.get_write_buffer_size() < UNREAD_LIMIT_BYTES:
            stdin.write(line.encode() + b"\n")

    def kill(self) -> None:
        """SIGKILL, when it lives."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def failure(self, what: str, status: int = 1) -> TilefleetError:
        """The error that says what happened to it, with its own last words."""
        lines = last_lines(self.log, start=self._log_start)
        said = sentence_in(lines)
        if status == BadConfig.exit_code and said:
            return BadConfig(said)
        rest = "".join(f"\n  {line}" for line in lines) or " (it wrote nothing)"
        return _ERRORS.get(status, TilefleetError)(
            f"{self.name} of the embedded deployment {what}{': ' + said if said else ''}; the end of {self.log}:{rest}"
        )

    async def _run_once(self) -> tuple[int, bool]:
        async with self._starting:
            if self._is_stopping:
                return 0, False
            self.process = await self._start()
        _log.info("child_started", child=self.name, pid=self.process.pid)
        try:
            status = await self.process.wait()
        except asyncio.CancelledError:
            self.kill()
            raise
        was_ready = self.ready.is_set()
        self.ready.clear()
        return status, was_ready

    async def _start(self) -> asyncio.subprocess.Process:
        with open_log(self.log) as log:
            self._log_start = log.tell()
            return await asyncio.create_subprocess_exec(
                *command_line(self._spec),
                stdin=subprocess.PIPE if self._spec.is_told else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env=self._spec.environment | {parent.VARIABLE: str(self._parent_pipe), "NOTIFY_SOCKET": os.fspath(self._notify)},
                pass_fds=(self._parent_pipe,),
                start_new_session=True,  # Ctrl-C for a supervisor in a terminal: it, not the terminal, stops them in order
            )

    async def _listen(self) -> asyncio.DatagramTransport:
        self._notify.unlink(missing_ok=True)
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        channel.bind(os.fspath(self._notify))
        self._notify.chmod(0o600)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Notifications(self.ready), sock=channel)
        return transport


class _Notifications(asyncio.DatagramProtocol):
    def __init__(self, ready: asyncio.Event) -> None:
        self._ready = ready

    def datagram_received(self, data: bytes, addr: object) -> None:
        if sd_notify.READY.encode() in data.split(b"\n"):
            self._ready.set()


def sentence_in(lines: list[str]) -> str:
    """What a dying process said to people: the last log line's ``error`` or ``sentence``, or the last line that is no JSON."""
    for line in reversed(lines):
        try:
            fields = msgspec.json.decode(line, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeError):
            return line.strip()
        for key in ("sentence", "error"):
            if isinstance(said := fields.get(key), str) and said:
                return said
    return ""


def rotate(log: Path) -> None:
    """Keep the newest 10 MiB and the 10 MiB before; who writes it appends to the same (now empty) file."""
    if log.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copy(log, log.with_suffix(".log.1"))  # with its mode
        os.truncate(log, 0)
