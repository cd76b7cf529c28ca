"""Control groups of nodes: one directory of the same name in every hierarchy that systemd looks at.

The rule: whatever runs in a node is in the node's groups, so the groups can end it, limit it and tell whether it lives. Hosts
with cgroup v2 alone and hosts with v1 controllers beside it (as in some virtual machines) both work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

END_TIMEOUT_S = 20
PERIOD_US = 100_000  # the kernel's own default
_V1 = {"name=systemd", "cpu", "cpuacct", "memory", "pids"}


class ControlGroup:
    """A group in all hierarchies, made on demand."""

    def __init__(self, name: str) -> None:
        unified, controllers = hierarchies()
        self._unified = unified / name
        self._directories = [path / name for path in (unified, *controllers)]

    def doors(self, child: str) -> list[Path]:
        """The files that a process writes 0 into to enter a child of it, made on demand.

        The group itself stays without processes: cgroup v2 hands controllers on only from such groups.
        """
        for directory in self._directories:
            (directory / child).mkdir(parents=True, exist_ok=True)
        return [directory / child / "cgroup.procs" for directory in self._directories]

    def is_populated(self) -> bool:
        """Whether a process lives in it or below."""
        try:
            return "populated 1" in (self._unified / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def processes(self) -> Iterator[int]:
        """All in it and below."""
        for directory, _, _ in os.walk(self._unified):
            with suppress(OSError):  # units come and go
                yield from map(int, (Path(directory) / "cgroup.procs").read_text().split())

    def kill(self) -> None:
        """End all at once, as SIGKILL does, and wait until they are gone."""
        if self.is_populated():
            (self._unified / "cgroup.kill").write_text("1")
        self.wait_until_empty()

    def wait_until_empty(self, timeout_s: float = END_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while self.is_populated():
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of {self._unified} do not end")
            time.sleep(0.01)

    def limit_cpu(self, cores: float | None) -> None:
        """At most so many cores' worth of time; None: as much as there is."""
        quota_us = None if cores is None else round(cores * PERIOD_US)
        for directory in self._directories:
            if (directory / "cpu.max").exists():
                (directory / "cpu.max").write_text(f"{quota_us or 'max'} {PERIOD_US}")
                return
            if (directory / "cpu.cfs_quota_us").exists():
                (directory / "cpu.cfs_quota_us").write_text(str(quota_us or -1))
                return
        raise RuntimeError("no control group here limits CPU time")

    def remove(self) -> None:
        """End what is in it and remove it from all hierarchies."""
        self.kill()
        for top in self._directories:
            for directory, _, _ in os.walk(top, topdown=False):
                _remove_empty(Path(directory))


@cache
def hierarchies() -> tuple[Path, list[Path]]:
    """The unified hierarchy, and those of v1 controllers that systemd knows."""
    unified, controllers = [], []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, kind = line.split(" - ")
        path, fs_type, options = Path(place.split()[4]), kind.split()[0], kind.split()[2].split(",")
        if fs_type == "cgroup2":
            unified.append(path)
        elif fs_type == "cgroup" and _V1.intersection(options):
            controllers.append(path)
    if not unified:
        raise RuntimeError("no cgroup2 file system is mounted here")
    return unified[0], controllers


def _remove_empty(directory: Path) -> None:
    deadline = time.monotonic() + END_TIMEOUT_S
    while True:
        try:
            return directory.rmdir()
        except FileNotFoundError:
            return None
        except OSError:  # v1 hierarchies let go of a process a moment after its end
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
