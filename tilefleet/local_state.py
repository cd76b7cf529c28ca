"""What an embedded deployment keeps on disk, and what its supervisor and its clients say to each other.

Two rules: exactly one supervisor per state directory, which is whoever holds the lock on ``run/lock`` (the kernel lets go of
it when the process ends, however that happens); and everything is readable by its owner only.
See docs/explanation/embedded-deployment.md.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from tilefleet.errors import DoesNotFit, ErrorInfo, NotAllowed

ROOM_BYTES = 64 * 1024  # configurations of the daemons, who runs, a first line in each log
SOCKET_PATH_LIMIT_BYTES = 103  # sun_path is 104 bytes on macOS and 108 on Linux, with the closing zero


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A running embedded deployment, as ``run/deployment.json`` has it (mode 0600, because of the keys)."""

    pid: int
    """Of the supervisor."""
    version: str
    state_dir: str
    store_url: str
    logs_dir: str
    config_path: str
    """Of the coordinator; those of the workers lie beside it."""
    endpoint_url: str
    """Of the queues' stand-in."""
    access_key: str
    secret_key: str
    workers: int
    started_at: float
    """Seconds since 1970 (UTC)."""
    is_pinned: bool = False
    """Kept up until ``tilefleet local down``."""
    children: dict[str, int] = {}
    """Process id by name: queues, coordinator, w1, w2 …"""

    def __repr__(self) -> str:  # keeps the secret key out of logs and tracebacks
        return f"Deployment(pid={self.pid}, state_dir={self.state_dir!r}, endpoint_url={self.endpoint_url!r})"


class Request(msgspec.Struct, frozen=True):
    """A client's line. ``hold``: tell me when you are ready, and stay while this connection is open. ``tell``: hand the
    message, as it would go into the operations queue, to the coordinator."""

    do: Literal["hold", "pin", "unpin", "stop", "tell"]
    message: str = ""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The supervisor's line. ``stopping`` is also sent unasked, before the connection ends."""

    state: Literal["ready", "pinned", "unpinned", "stopping", "failed"]
    deployment: Deployment | None = None
    error: ErrorInfo | None = None


class StateFiles:
    """The paths below a state directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.logs = root / "logs"
        self.run = root / "run"
        self.lock = self.run / "lock"
        self.deployment = self.run / "deployment.json"
        self.supervisor_log = self.logs / "supervisor.log"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def config(self, name: str) -> Path:
        return self.run / f"{name}.toml"

    def socket(self, name: str) -> Path:
        """Path of a unix socket; in a private directory under /tmp when the state directory's own path is too long."""
        return self.sockets / f"{name}.sock"

    @property
    def sockets(self) -> Path:
        longest = self.run / "notify-coordinator.sock"
        if len(os.fsencode(longest)) <= SOCKET_PATH_LIMIT_BYTES:
            return self.run
        digest = hashlib.sha256(os.fsencode(os.path.realpath(self.root))).hexdigest()[:16]
        return Path("/tmp") / f"tilefleet-{os.getuid()}-{digest}"  # noqa: S108 - not $TMPDIR, which may differ between clients

    def make(self) -> None:
        """Create what is missing, all 0700. Raises NotAllowed with the way out when that is impossible."""
        try:
            for directory in (self.root, self.store, self.logs, self.run, self.sockets):
                directory.mkdir(mode=0o700, parents=directory == self.root, exist_ok=True)
                _check_private(directory)
        except OSError as error:
            raise NotAllowed(
                f"the state directory {self.root} cannot be used: {error.strerror or error}; name another with "
                "TILEFLEET_STATE or local.state_dir"
            ) from error


def check_room(files: StateFiles) -> None:
    """Raises DoesNotFit when a deployment's own notes would not fit into its state directory."""
    probe = files.run / "room"
    try:
        write_private(probe, bytes(ROOM_BYTES))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DoesNotFit(
            f"the disk that holds {files.root} is full, or its quota; free space there, or name another directory with "
            "TILEFLEET_STATE or local.state_dir"
        ) from error
    finally:
        for left in files.run.glob("room*"):
            left.unlink(missing_ok=True)


def _check_private(directory: Path) -> None:
    status = directory.lstat() if directory.parent == Path("/tmp") else directory.stat()  # noqa: S108 - anyone may make a link there
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OSError(0, f"{directory} is not a directory of yours")
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def take_lock(files: StateFiles) -> int | None:
    """Become the one supervisor, or prepare to start it: a descriptor that holds the lock as long as any copy of it is open.

    None when another process has the lock.
    """
    descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)  # no supervisor has written its pid yet: a deployment.json that lies here is an old one
    return descriptor


def supervisor_pid(files: StateFiles) -> int | None:
    """Process id of the live supervisor; None when nobody has the lock. 0 while one is just starting."""
    return lock_holder(files.lock)


def lock_holder(lock: Path) -> int | None:
    """Process id that whoever holds a lock wrote into it; 0 while it has not yet, None when nobody holds it."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32)
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def read_deployment(files: StateFiles) -> Deployment | None:
    """The file as it lies there, be it of a live deployment or of one that crashed; None when there is none."""
    try:
        return msgspec.json.decode(files.deployment.read_bytes(), type=Deployment)
    except (OSError, msgspec.DecodeError, UnicodeError):  # of another version, or half-written by a machine that lost power
        return None


def write_private(path: Path, data: bytes) -> None:
    """Create or replace a file atomically, readable by its owner only."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)


def open_log(path: Path) -> BinaryIO:
    """A file to append to, readable by its owner only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # one that was there may be of an older version
    return os.fdopen(descriptor, "ab")


def last_lines(path: Path, *, start: int = 0, count: int = 5) -> list[str]:
    """The last lines that a process wrote to its log since offset ``start``; at most 8 KiB."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= end else 0, end - 8192))
            return file.read().decode(errors="replace").strip().splitlines()[-count:]
    except OSError:
        return []
