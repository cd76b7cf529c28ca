"""What this process makes of its machine: cores, memory, BLAS threads, the allocator.

``prepare`` must run before NumPy is imported: OpenBLAS reads its thread count once, when it is loaded.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NamedTuple

import psutil

from tilefleet.config import WorkerSection
from tilefleet.errors import BadConfig
from tilefleet.quantities import format_bytes

MIB = 2**20
MARGIN = 0.05  # of worker.memory: HTTP buffers, fragmentation, what the interpreter allocates while it works
LATER_IMPORTS_BYTES = 64 * MIB  # pyarrow and zarr are imported by the first job that needs them
SMALLEST_BUDGET_BYTES = 72 * MIB  # joining the parts of a result, which every operation with -o ends in (footprint.py)

# https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


class Machine(NamedTuple):
    """What this worker may use."""

    cores: int
    memory_bytes: int


def prepare(settings: WorkerSection) -> Machine:
    """Limit the BLAS threads to the cores this worker owns and tune the allocator."""
    cores = settings.cores or usable_cores()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[variable] = str(cores)
    tune_allocator()
    return Machine(cores, settings.memory.bytes or psutil.virtual_memory().total // 2)


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tune_allocator() -> None:
    """Keep the pages of tiles instead of returning and faulting them in again: page faults dominate the cost of a GET.

    Up to 32 MiB (glibc's maximum for the threshold) memory comes from one heap that is trimmed late; larger arrays are
    mapped and returned exactly, so that the memory budget holds.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in musl
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 32 * MIB)
    mallopt(_M_TRIM_THRESHOLD, 64 * MIB)


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def job_memory(memory_bytes: int, base_bytes: int) -> int:
    """What jobs may use of ``memory_bytes``, beside the process itself and a margin. Raises BadConfig when that is too little."""
    free = int(memory_bytes * (1 - MARGIN)) - base_bytes
    if free < SMALLEST_BUDGET_BYTES:
        least = (base_bytes + SMALLEST_BUDGET_BYTES) / (1 - MARGIN)
        raise BadConfig(
            f"worker.memory of {format_bytes(memory_bytes)} is too little: the process itself takes {format_bytes(base_bytes)}; "
            f"give it {format_bytes(least)} or more"
        )
    return free
