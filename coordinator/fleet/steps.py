"""The steps of a node's set-up, as POSIX shell: what is known about the node and what is wanted in, scripts out.

The rule: a step may be run any number of times, and again after it was cut off in the middle; when its work is done already it
only looks. Values never become shell but through ``shlex``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from coordinator.fleet.records import Role


class Upload(NamedTuple):
    """A file that a step needs on the node."""

    local: Path
    remote: str


class Step(NamedTuple):
    """One step: files, then a script as root."""

    name: str
    script: str
    deadline_s: float
    stdin: bytes = b""
    uploads: tuple[Upload, ...] = ()


class Facts(NamedTuple):
    """What a node says about itself."""

    architecture: str = ""
    """``x86_64`` or ``aarch64``."""
    system: str = ""
    """ID and VERSION_ID of os-release: ``debian 12``, ``amzn 2023``."""
    python: str = ""
    """Version of the newest Python that will do: ``3.11``; empty when there is none."""
    python_path: str = ""
    libc: str = ""
    systemd: int = 0
    memory_bytes: int = 0
    disk_free_bytes: int = 0
    cores: int = 0
    clock: float = 0.0
    """Its time of day, in seconds since 1970."""
    release: str = ""
    """What /opt/tilefleet points to."""
    releases: tuple[str, ...] = ()
    """All that are installed completely."""
    files: tuple[str, ...] = ()
    """What of our uploads is there already."""


class SetUp(NamedTuple):
    """What a node should become."""

    node: str
    settings: str
    """Text of its ``workerd.toml`` or ``coordinator.toml``."""
    role: Role = "worker"
    environment: str = ""
    """Text of its environment file, for root alone; empty: it has what it needs."""
    memory_bytes: int = 0
    """What its daemon may use; 0: half of the machine."""
    dead_man_s: float = 0.0
    lifetime_s: float = 0.0
    boot_s: float = 300.0
    step_s: float = 300.0
    drain_s: float = 60.0
