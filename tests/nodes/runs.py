"""Which test run owns what on this machine: several may be active at a time, and one that crashed leaves things behind.

The rule: all that a run makes carries its number in its name, and the run holds the lock on the number's file for as long as
it lives. Who gets the lock of a number may remove whatever carries it: its owner is dead.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.nodes.cgroups import ControlGroup, hierarchies
from tests.nodes.image import CACHE

PREFIX = "tftest"  # short: the kernel wants names of interfaces in 15 characters
MAX_RUNS = 250  # the number is a byte of the addresses


class Run:
    """A number that nobody else on this machine has, and a directory."""

    def __init__(self, number: int, lock: IO[str]) -> None:
        self.number = number
        self.name = f"{PREFIX}{number}"
        self.directory = CACHE / f"run-{number}"
        self._lock = lock

    def close(self) -> None:
        """Remove all that carries the number, and give it back."""
        try:
            remove_traces(self.number)
        finally:
            self._lock.close()


def claim() -> Run:
    """A run of this process's own, after what dead ones left has been removed."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for path in CACHE.glob("run-*.lock"):
        number = int(path.stem.removeprefix("run-"))
        if lock := _lock(number):
            with lock:
                remove_traces(number)
    for number in range(1, MAX_RUNS):
        if lock := _lock(number):
            run = Run(number, lock)
            run.directory.mkdir()
            return run
    raise RuntimeError(f"{MAX_RUNS} test runs are active on this machine")


def remove_traces(number: int) -> None:
    """End and remove all that carries the number, in the order in which one thing holds another."""
    name, directory = f"{PREFIX}{number}", CACHE / f"run-{number}"
    for group in {path.name for top in _all_hierarchies() for path in top.glob(f"{name}-*")}:
        ControlGroup(group).remove()
    if name in _names_in(Path("/sys/class/net")):
        ip("link", "delete", name)
    for namespace in _names_in(Path("/run/netns")):
        if namespace == name or namespace.startswith(f"{name}-"):
            ip("netns", "delete", namespace)
    if directory.exists():
        remove_directory(directory)


def remove_directory(directory: Path) -> None:
    """Remove it, after all that is mounted in it."""
    unmount_below(directory)
    shutil.rmtree(directory)


def unmount_below(directory: Path) -> None:
    """Unmount it and all in it; lazily, as a node's own view of a mount may last a moment longer."""
    for mount in reversed(list(_mounts_below(directory))):
        subprocess.run(["umount", "--lazy", mount], check=True, capture_output=True)


def ip(*arguments: str) -> None:
    """The program ``ip``."""
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _lock(number: int) -> IO[str] | None:
    file = (CACHE / f"run-{number}.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")  # for a person who wonders
    file.flush()
    return file


def _all_hierarchies() -> list[Path]:
    unified, controllers = hierarchies()
    return [unified, *controllers]


def _names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def _mounts_below(directory: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount = line.split()[4]
        if Path(mount).is_relative_to(directory):
            yield mount
