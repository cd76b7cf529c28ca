"""What the machine says that ``tilefleet`` is used on: memory, disk, Python, BLAS, open files, packages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from coordinator.fleet.doctor.findings import Finding, failure, ok, warning
from tilefleet.config import Config
from tilefleet.quantities import format_bytes

AREA = "this machine"
MIB = 2**20
GIB = 2**30
FLOOR = (3, 11)
SMALLEST_WORKER_BYTES = 512 * MIB  # coordinator.runtime.embedded takes no less
CLIENT_BYTES = 512 * MIB
FEWEST_FILES = 256  # each of two workers holds some 16 connections to the store, 10 to the queues, and tiles in files
DISK_BYTES = 2 * GIB


class Measured(NamedTuple):
    """What this machine has."""

    memory_bytes: int
    free_memory_bytes: int
    worker_bytes: int
    """What the embedded deployment gives each worker."""
    disk: str
    """A directory on it."""
    free_disk_bytes: int
    open_files: int
    """Soft limit of this process; 0: no limit."""
    python: tuple[int, int, int]
    blas: tuple[str, ...]
    """Such as ``openblas 0.3.29``."""


def python(version: tuple[int, int, int]) -> Finding:
    text = ".".join(map(str, version))
    if version[:2] < FLOOR:
        return failure(AREA, "Python", f"Python {text} is too old", f"install Python {FLOOR[0]}.{FLOOR[1]} or newer")
    return ok(AREA, "Python", f"Python {text}")


def memory(config: Config, measured: Measured) -> Finding:
    has = f"{format_bytes(measured.memory_bytes)}, of which {format_bytes(measured.free_memory_bytes)} are free now"
    if config.fleet.kind == "remote":
        if measured.free_memory_bytes < CLIENT_BYTES:
            return warning(AREA, "memory", has, f"end other programs: client and coordinator take {format_bytes(CLIENT_BYTES)}")
        return ok(AREA, "memory", has)
    each, all_bytes = measured.worker_bytes, config.local.workers * measured.worker_bytes
    needs = f"{config.local.workers} × {format_bytes(each)} for the workers"
    if each < SMALLEST_WORKER_BYTES:
        return failure(
            AREA, "memory", f"{format_bytes(each)} are too little for a worker", 'set local.memory = "512 MiB" or more'
        )
    if all_bytes > 0.9 * measured.memory_bytes:
        return failure(AREA, "memory", f"{has}: {needs} do not fit", "lower local.workers or local.memory")
    if all_bytes > measured.free_memory_bytes:
        return warning(AREA, "memory", f"{has}: {needs} may make it swap", "end other programs, or lower local.memory")
    return ok(AREA, "memory", f"{has}; {needs} at most")


def disk(measured: Measured) -> Finding:
    has = f"{format_bytes(measured.free_disk_bytes)} free at {measured.disk}"
    if measured.free_disk_bytes < DISK_BYTES // 10:
        return failure(AREA, "disk", has, "free space there, or name another place with TILEFLEET_STATE")
    if measured.free_disk_bytes < DISK_BYTES:
        return warning(AREA, "disk", has, "free space there: tiles of results and what nodes are set up from lie there")
    return ok(AREA, "disk", has)


def open_files(limit: int) -> Finding:
    if 0 < limit < FEWEST_FILES:
        return warning(AREA, "open files", f"a process may open {limit} files", f"say: ulimit -n {4 * FEWEST_FILES}")
    return ok(AREA, "open files", f"{limit or 'any number'} per process")


def blas(libraries: Iterable[str]) -> Finding:
    found = ", ".join(sorted(set(libraries)))
    if not found:
        return warning(
            AREA, "BLAS", "NumPy has no BLAS that can be seen; products may be slow", "pip install --force-reinstall numpy scipy"
        )
    return ok(AREA, "BLAS", found)


def packages(wanted: Mapping[str, str], installed: Mapping[str, str | None]) -> Finding:
    """``wanted``: lowest version by name; ``installed``: version, None when absent."""
    absent = [f"{name} is missing" for name, version in installed.items() if version is None]
    old = [
        f"{name} {version} is older than {wanted[name]}"
        for name, version in installed.items()
        if version is not None and _numbers(version) < _numbers(wanted[name])
    ]
    if absent or old:
        return failure(AREA, "packages", "; ".join([*absent, *old]), "install tilefleet again: pip install --upgrade tilefleet")
    return ok(AREA, "packages", f"all {len(installed)} that tilefleet needs")


def requirements(lines: Iterable[str]) -> dict[str, str]:
    """Lowest version by name, of the requirements without conditions: ``numpy>=2.1`` → ``{"numpy": "2.1"}``."""
    found = {}
    for line in lines:
        if ";" not in line and (match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?:>=\s*([0-9.]+))?", line)):
            found[match[1]] = match[2] or "0"
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", re.split(r"[^0-9.]", version, maxsplit=1)[0]))
