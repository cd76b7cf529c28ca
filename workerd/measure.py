"""What the planner must know of this worker: how fast it multiplies, and how fast its store answers.

Both are measured at its start, when other things start on the machine as well, and some times more while it is idle.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np

from tilefleet.errors import TilefleetError
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.reading import Reader
from tilefleet.store import Store
from workerd.roster import Speeds

GEMM_SIDE = 768  # 0.9 Gflop: 10–50 ms on a core; long enough for BLAS to reach its speed
PROBE_BYTES = 8 * 2**20  # a tile: 1024 × 1024 of float64
PROBES_AT_ONCE = 4
AGAIN, EVERY_S = 3, 5.0  # measurements after the start, and how long before each


async def speeds(store: Store, reader: Reader, name: str) -> Speeds:
    """Both, one after the other; a tenth of a second where the store is near. Raises what the store raises."""
    return Speeds(await asyncio.to_thread(flops_per_s), await bytes_per_s(store, reader, name))


async def while_idle(measured: Callable[[], Awaitable[Speeds]], is_idle: Callable[[], bool]) -> AsyncIterator[Speeds]:
    """Some more measurements, after the start: a machine that starts, or starts several workers, does not show its speed."""
    n_left = AGAIN
    while n_left:
        await asyncio.sleep(EVERY_S)
        if is_idle():
            n_left -= 1
            try:
                found = await measured()
            except TilefleetError:
                continue
            yield found


def flops_per_s() -> float:
    """float64 multiply-adds, counted as two, per second on the BLAS threads of this process; the best of three."""
    a = np.ones((GEMM_SIDE, GEMM_SIDE))
    b, c = a.copy(), np.empty_like(a)
    return 2 * GEMM_SIDE**3 / min(_seconds(a, b, c) for _ in range(3))


def _seconds(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    began = time.perf_counter()
    np.matmul(a, b, out=c)
    return time.perf_counter() - began


async def bytes_per_s(store: Store, reader: Reader, name: str) -> float:
    """Speed at which ``reader`` fills arrays from the store; a small object is written for it and removed again.

    Raises what the store raises, so that a worker that cannot read, write or delete says so at its start.
    """
    key = f"probe-{name}"  # at the top: a directory would keep an empty folder of that name
    side = math.isqrt(PROBE_BYTES // 8)
    whole, panels = Rect(0, side, 0, side), [np.ones((side, side)) for _ in range(PROBES_AT_ONCE)]
    probe = MatrixRef(store.url_of(key), "npy", (side, side), "float64", size_bytes=PROBE_BYTES)
    await store.put(key, bytes(PROBE_BYTES))
    try:
        began = time.perf_counter()
        await asyncio.gather(*(reader.read(probe, whole, out=panel) for panel in panels))
        return PROBES_AT_ONCE * PROBE_BYTES / (time.perf_counter() - began)
    finally:
        await store.delete([key])
