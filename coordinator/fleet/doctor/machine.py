"""The machine that ``tilefleet`` is used on, asked about itself; works without a network."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from coordinator.fleet.doctor.findings import Finding, ok
from coordinator.fleet.doctor.judgements import machine as judge
from coordinator.fleet.doctor.judgements.machine import AREA, Measured
from coordinator.runtime.embedded import memory_per_worker_bytes, this_machine
from tilefleet.config import Config


def measure(config: Config) -> Measured:
    """Ask this machine."""
    import resource

    import numpy  # noqa: F401  so that its BLAS is loaded
    import psutil
    import threadpoolctl

    from tilefleet.local import state_dir

    itself = this_machine()
    place = _existing(state_dir(config))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    blas = [one for one in threadpoolctl.threadpool_info() if one.get("user_api") == "blas"]
    return Measured(
        memory_bytes=itself.memory_bytes,
        free_memory_bytes=min(itself.memory_bytes, psutil.virtual_memory().available),
        worker_bytes=memory_per_worker_bytes(config, itself),
        disk=str(place),
        free_disk_bytes=psutil.disk_usage(str(place)).free,
        open_files=0 if limit == resource.RLIM_INFINITY else limit,
        python=sys.version_info[:3],
        blas=tuple(f"{one.get('internal_api')} {one.get('version') or ''}".strip() for one in blas),
    )


def examine(config: Config) -> list[Finding]:
    """Every check of this machine; some 100 ms, most of it NumPy."""
    from importlib.metadata import PackageNotFoundError, requires, version

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    measured = measure(config)
    wanted = judge.requirements(requires("tilefleet") or ())
    return [
        ok(AREA, "system", f"{platform.system()} {platform.machine()}"),
        judge.python(measured.python),
        judge.packages(wanted, {name: installed(name) for name in wanted}),
        judge.blas(measured.blas),
        judge.memory(config, measured),
        judge.disk(measured),
        judge.open_files(measured.open_files),
    ]


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return path if path.exists() or path == path.parent else _existing(path.parent)
