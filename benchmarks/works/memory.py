"""A product 16 times larger than what a worker may use: the same GFLOP/s as with plenty, and no more memory than allowed.

The rule: the measured peak is the kernel's high-water mark of each worker process, from its start.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from benchmarks.children import Child
from benchmarks.rounds import Case, measure
from benchmarks.works import Bench, Outcome, Work
from benchmarks.works.products import product

BUDGET_MIB = 400  # per worker: about the least that one needs
MOST_ROUNDS = 2  # four minutes each on a machine of 40 GFLOP/s


def _memory(bench: Bench) -> Outcome:
    if not Path("/proc/self/status").exists():
        return Outcome(skipped="peak memory is read from /proc, which is on Linux alone")
    n = bench.sizes[0] if bench.sizes else 3072 if bench.is_quick else 16384
    operation, rounds = product(n, n, n, "float64"), min(bench.rounds, MOST_ROUNDS)
    case = Case(operation.name, operation.about())
    facts = {"budget_bytes": BUDGET_MIB << 20, "matrices_bytes": 3 * operation.a.nbytes, "peak_bytes": []}
    for name, options in (("little memory", {"state": "little-memory", "memory": f"{BUDGET_MIB} MiB"}), ("plenty", None)):
        (child,), _ = bench.pool.only(("tilefleet",), options)
        measured = measure(operation, [child], rounds, bench.say)
        case.runs[name] = measured.runs.get("tilefleet", [])
        case.failed |= dict.fromkeys([name] if measured.failed else [], "; ".join(measured.failed.values()))
        if options:
            facts["peak_bytes"] = peaks(child)
    return Outcome([case], facts)


def peaks(child: Child) -> list[int]:
    """The most that each worker ever had in memory, in bytes."""
    return [high_water(process.pid) for process in child.tree() if _is_worker(process)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "workerd.daemon" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def high_water(pid: int) -> int:
    """VmHWM of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


WORKS = (Work("memory", "a product 16 × larger than a worker's memory, beside one with plenty; Freivalds", _memory),)
