"""The environment of everything that is measured, and the machine it is measured on.

The rule: no peer inherits what slows or favours it. Variables that steer BLAS are removed for all children alike, and the
kernel that then runs is written down.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks import places

_STEERS_BLAS = ("OPENBLAS_", "OMP_", "MKL_", "BLIS_", "NVPL_", "GOTO_", "VECLIB_")
_OF_THE_USER = ("TILEFLEET_", "AWS_")
_SLOWS_STARTS = ("PYTHONDONTWRITEBYTECODE",)  # each process would compile all that it imports: a tenth of a second of a command
PACKAGES = (
    "numpy", "scipy", "zarr", "obstore", "pyarrow", "dask", "distributed", "cubed", "ray", "boto3", "aioboto3", "s3fs",
    "ministack", "moto", "tilefleet",
)  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """What a measured process gets: this environment without what steers BLAS, AWS or tilefleet or slows starts, and ``more``."""
    left_out = (*_STEERS_BLAS, *_OF_THE_USER, *_SLOWS_STARTS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"PYTHONPATH": str(places.ROOT)} | more


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "blas": _blas(),
    }


def versions() -> dict[str, str]:
    """Of what took part; those that are not installed are left out."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def commit() -> tuple[str, bool]:
    """The commit that is checked out, and whether the code it measures was changed since."""
    code = ("tilefleet", "workerd", "coordinator", "pyproject.toml", "constraints.txt")
    try:
        head = _output("git", "rev-parse", "--short", "HEAD").strip()
        return head, bool(_output("git", "status", "--porcelain", "--", *code).strip())
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


def today() -> str:
    """The date of a result, in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=places.ROOT, check=True, capture_output=True, text=True).stdout


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _blas() -> str:
    """Which kernels NumPy's BLAS chooses in the environment that is measured."""
    code = (
        "import json, numpy, threadpoolctl\n"
        "print(json.dumps([{k: i.get(k) for k in ('internal_api', 'version', 'architecture', 'num_threads')}"
        " for i in threadpoolctl.threadpool_info() if i['user_api'] == 'blas']))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return "; ".join(f"{i['internal_api']} {i['version']} {i['architecture']}, {i['num_threads']} threads" for i in found)
