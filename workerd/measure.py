"""What the planner must know of this worker: how fast it multiplies, and how fast its store answers. Both measured at start."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from tilefleet.store import Store

GEMM_SIDE = 768  # 0.9 Gflop: 10–50 ms on a core; long enough for BLAS to reach its speed
PROBE_BYTES = 8 * 2**20  # a tile
PROBES_AT_ONCE = 4


def flops_per_s() -> float:
    """float64 multiply-adds, counted as two, per second on the BLAS threads of this process; the best of three."""
    a = np.ones((GEMM_SIDE, GEMM_SIDE))
    b, c = a.copy(), np.empty_like(a)
    return 2 * GEMM_SIDE**3 / min(_seconds(a, b, c) for _ in range(3))


def _seconds(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    began = time.perf_counter()
    np.matmul(a, b, out=c)
    return time.perf_counter() - began


async def bytes_per_s(store: Store, name: str) -> float:
    """Speed of reading tiles from the store; a small object is written for it and removed again.

    Raises what the store raises, so that a worker that cannot read, write or delete says so at its start.
    """
    key = f"probe-{name}"  # at the top: a directory would keep an empty folder of that name
    await store.put(key, bytes(PROBE_BYTES))
    try:
        began = time.perf_counter()
        await asyncio.gather(*(store.get(key) for _ in range(PROBES_AT_ONCE)))
        return PROBES_AT_ONCE * PROBE_BYTES / (time.perf_counter() - began)
    finally:
        await store.delete([key])
