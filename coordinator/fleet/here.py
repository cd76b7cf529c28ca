"""The coordinator beside whoever says ``fleet up``: a detached process of this machine.

The rules: whoever holds the lock is the coordinator of its fleet on this machine (the kernel lets go of it when the process
ends, however that happens); it is signalled only while it holds the lock; everything it writes is its owner's alone. It
inherits the environment, and so whatever AWS set-up was in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from typing import Literal, NamedTuple

import msgspec

from coordinator.fleet.files import FleetFiles
from coordinator.runtime.children import rotate, sentence_in
from coordinator.runtime.leadership import last_beacon
from tilefleet import parent
from tilefleet.config import Config
from tilefleet.errors import BadConfig, NotAllowed, TilefleetError, Unreachable
from tilefleet.local_state import last_lines, lock_holder, open_log, write_private
from tilefleet.records import Control
from tilefleet.store import Store
from tilefleet.toml import to_toml

LAST_MOMENT_S = 5.0  # from the end of its lock to the end of a process
LEAD_DEADLINE_S = 60.0  # for the store and the queues to answer, as the daemon itself waits, or for a dead leader's silence
STOP_MARGIN_S = 10.0  # beyond coordinator.drain, for what is being written
POLL_S = 0.1
_ERRORS: dict[int, type[TilefleetError]] = {cls.exit_code: cls for cls in (BadConfig, NotAllowed, Unreachable)}
_NOT_FOR_IT = (parent.VARIABLE, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Running(NamedTuple):
    """A coordinator of this machine that was found or made to run."""

    pid: int
    did: Literal["found", "started", "restarted"]
    leader: str
    """Who leads: normally it, as ``host:pid``; else the one that it stands by for."""

    @property
    def leads(self) -> bool:
        return self.leader == leader_name(self.pid)


def leader_name(pid: int) -> str:
    """As the beacon has it."""
    return f"{platform.node()}:{pid}"


def running_pid(files: FleetFiles) -> int | None:
    """Process id of the fleet's coordinator on this machine; 0 while one is just being started; None when there is none."""
    return lock_holder(files.coordinator_lock)


def config_text(config: Config) -> str:
    """What the coordinator is told: the configuration in force, with files named as they are found from anywhere."""
    ssh = msgspec.structs.replace(
        config.ssh, key_file=_absolute(config.ssh.key_file), known_hosts=_absolute(config.ssh.known_hosts)
    )
    hosts = msgspec.structs.replace(config.hosts, environment_file=_absolute(config.hosts.environment_file))
    return to_toml(msgspec.structs.replace(config, ssh=ssh, hosts=hosts))


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if path else ""  # noqa: PTH100, PTH111 - links stay as they are named


async def ensure(config: Config, files: FleetFiles, store: Store, *, renew: bool = False) -> Running:
    """Have one run with this configuration, and wait until it leads or knows who does. ``renew``: a new process in any case.

    Raises the error that it ended with, with its last log lines; Unreachable when nobody leads in time.
    """
    text = config_text(config)
    pid = running_pid(files)
    if pid is not None and not renew and _written(files) == text:
        return Running(pid, "found", await _led(store, config, pid, None, files, 0))
    was_running = await stop(config, files)
    files.make()
    write_private(files.coordinator_config, text.encode())
    process, log_start = _start(files)
    if process is None:  # somebody else just did
        return Running(running_pid(files) or 0, "found", await _led(store, config, running_pid(files) or 0, None, files, 0))
    leader = await _led(store, config, process.pid, process, files, log_start)
    return Running(process.pid, "restarted" if was_running else "started", leader)


async def stop(config: Config, files: FleetFiles) -> bool:
    """Stop it: SIGTERM, and SIGKILL when it has not ended ``coordinator.drain`` later. False when none was running."""
    if running_pid(files) is None:
        return False
    deadline = time.monotonic() + config.coordinator.drain.s + STOP_MARGIN_S
    told = 0
    while (pid := running_pid(files)) is not None:
        is_late = time.monotonic() > deadline
        if pid and (pid != told or is_late):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            told = pid
        await asyncio.sleep(POLL_S)
    return True


async def hand_over(config: Config, files: FleetFiles, store: Store) -> bool | None:
    """``stop``, and wait until another leads; whether one does in time. None when none was running."""
    own = leader_name(running_pid(files) or 0)
    if not await stop(config, files):
        return None
    deadline = time.monotonic() + LEAD_DEADLINE_S
    while time.monotonic() < deadline:
        seen = await last_beacon(store)
        if seen is not None and seen.leader not in ("", own):
            return True
        await asyncio.sleep(min(POLL_S, config.coordinator.beacon.s / 4))
    return False


def last_words(files: FleetFiles, count: int = 5) -> list[str]:
    """The end of its log."""
    return last_lines(files.coordinator_log, count=count)


def _written(files: FleetFiles) -> str:
    try:
        return files.coordinator_config.read_text(encoding="utf-8")
    except OSError:
        return ""


def _start(files: FleetFiles) -> tuple[subprocess.Popen[bytes] | None, int]:
    """The new process, which holds the lock, and where its part of the log begins; None when another has the lock."""
    lock = os.open(files.coordinator_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None, 0
        os.ftruncate(lock, 0)
        if files.coordinator_log.exists():
            rotate(files.coordinator_log)
        with open_log(files.coordinator_log) as log:
            log_start = log.tell()
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "coordinator.daemon", "--config", os.fspath(files.coordinator_config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=files.root,
                env={name: value for name, value in os.environ.items() if name not in _NOT_FOR_IT} | {"PYTHONUNBUFFERED": "1"},
                pass_fds=(lock,),  # it holds the lock as long as it lives, without knowing
                start_new_session=True,  # neither Ctrl-C nor the end of the terminal is for it
            )
        os.pwrite(lock, str(process.pid).encode(), 0)
    finally:
        os.close(lock)
    threading.Thread(target=process.wait, name="reap-coordinator", daemon=True).start()
    return process, log_start


async def _led(
    store: Store, config: Config, pid: int, process: subprocess.Popen[bytes] | None, files: FleetFiles, log_start: int
) -> str:
    """Wait until this process leads, or another's beacon changes under our eyes: who leads then."""
    own, first_seen = leader_name(pid), dict[int, Control]()
    deadline = time.monotonic() + LEAD_DEADLINE_S
    while time.monotonic() < deadline:
        seen = await last_beacon(store)
        if seen is not None and seen.leader:
            if seen.leader == own and (process is not None or first_seen.setdefault(seen.epoch, seen) != seen):
                return own
            if seen.leader != own and first_seen.setdefault(seen.epoch, seen) != seen:
                return seen.leader
        if (process is not None and process.poll() is not None) or running_pid(files) is None:
            raise _failure(files, log_start, await _status_of(process))
        await asyncio.sleep(min(POLL_S, config.coordinator.beacon.s / 4))
    raise Unreachable(
        f"the coordinator of this machine (process {pid}) did not take the lead within {LEAD_DEADLINE_S:.0f} s; "
        f"the end of {files.coordinator_log}:{_indented(last_words(files))}"
    )


async def _status_of(process: subprocess.Popen[bytes] | None) -> int | None:
    """The exit status of one that has let go of its lock: it is still on its way out for a moment."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return await asyncio.to_thread(process.wait, LAST_MOMENT_S) if process is not None else None
    return None


def _failure(files: FleetFiles, log_start: int, status: int | None) -> TilefleetError:
    lines = last_lines(files.coordinator_log, start=log_start)
    said = sentence_in(lines).removeprefix("coordinator: ")
    ended = f"ended with status {status}" if status is not None else "ended"
    return _ERRORS.get(status or 0, TilefleetError)(
        f"the coordinator of this machine {ended}{': ' + said if said else ''}; "
        f"the end of {files.coordinator_log}:{_indented(lines)}"
    )


def _indented(lines: list[str]) -> str:
    return "".join(f"\n  {line}" for line in lines) or " (it wrote nothing)"
