"""A real OpenSSH server on a loopback port, as a process of the tests: root logs in with one key, sftp and shell as usual."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncssh

from tests.conftest import START_TIMEOUT_S

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")


class Sshd(NamedTuple):
    """A server that runs."""

    port: int
    host_key: str
    """``ssh-ed25519 AAAA…``"""
    client_key: Path
    log: Path
    pid: int


@contextmanager
def running_sshd(directory: Path, options: Sequence[str] = ()) -> Iterator[Sshd]:
    """Start one; ``options``: lines of its configuration that go before ours."""
    directory.mkdir(exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)  # where it separates its privileges; a package's start script makes it
    for name in ("host", "client"):
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(directory / name)
        (directory / name).chmod(0o600)
    public = asyncssh.read_private_key(directory / "client").export_public_key()
    (directory / "authorized").write_bytes(public)
    host_key = asyncssh.read_private_key(directory / "host").export_public_key().decode().strip()
    port = free_port()
    lines = [
        *options,
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {directory}/host",
        f"AuthorizedKeysFile {directory}/authorized",
        "PermitRootLogin yes",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        f"PidFile {directory}/pid",
        "Subsystem sftp internal-sftp",
    ]
    (directory / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    log = directory / "log"
    assert SSHD is not None
    process = subprocess.Popen([SSHD, "-D", "-f", str(directory / "config"), "-E", str(log)], stdin=subprocess.DEVNULL)
    try:
        _wait(process, port, log)
        yield Sshd(port, host_key, directory / "client", log, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=START_TIMEOUT_S)


def why_no_sshd() -> str:
    """Why it does not run here; empty when it does."""
    if SSHD is None:
        return "openssh-server is not installed"
    return "" if os.geteuid() == 0 else "sshd lets others than itself in only as root"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, f"sshd did not start: {log.read_text(errors='replace')}"
            assert time.monotonic() < deadline, "sshd does not answer"
            time.sleep(0.02)
        else:
            return
