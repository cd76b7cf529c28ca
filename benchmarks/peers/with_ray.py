"""Ray, which has no arrays of its own: one remote function for each chunk of the result, as its users write it.

Each reads the chunks of its operands from the store, adds up their products and writes its chunk. One BLAS thread each, which
is what Ray itself gives to a function that owns a core.
"""

from __future__ import annotations

import os
from itertools import product
from typing import Any

from benchmarks.peers.contract import Step, Told
from benchmarks.peers.opening import create_array, open_array

Place = tuple[slice, slice]
NEVER_LOST = 1_000_000  # checks in a row: it stands still while others are measured, and would be taken for dead after five


class WithRay:
    def __init__(self) -> None:
        self._chunk: Any = None

    def warm(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        cores = os.cpu_count() or 1
        ray.init(
            num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="error",
            _system_config={"health_check_failure_threshold": NEVER_LOST},
        )  # fmt: skip
        self._chunk = ray.remote(chunk)
        ray.get([ray.remote(imported).remote() for _ in range(2 * cores)])

    def do(self, step: Step) -> Told:
        import ray

        a, b = open_array(step.a), open_array(step.b)
        out = create_array(step.out, (a.shape[0], b.shape[1]), a.dtype)
        ray.get([self._chunk.remote(step.kind, step.a, step.b, step.out, place) for place in places_of(out)])
        return Told()

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        import ray

        ray.shutdown()


def places_of(array: Any) -> list[Place]:
    """Where the chunks of an array lie."""
    return list(product(cuts(array.shape[0], array.chunks[0]), cuts(array.shape[1], array.chunks[1])))


def cuts(length: int, side: int) -> list[slice]:
    return [slice(start, min(start + side, length)) for start in range(0, length, side)]


def chunk(kind: str, a_url: str, b_url: str, out_url: str, place: Place) -> None:
    """Compute and write one chunk of the result."""
    import zarr

    a, b = open_array(a_url), open_array(b_url)
    block = a[place] + b[place] if kind == "add" else added_up(a, b, place)
    zarr.open_array(out_url, mode="r+")[place] = block


def added_up(a: Any, b: Any, place: Place) -> Any:
    """One chunk of A·B."""
    rows, cols = place
    first, *others = cuts(a.shape[1], a.chunks[1])
    block = a[rows, first] @ b[first, cols]
    for k in others:
        block += a[rows, k] @ b[k, cols]
    return block


def imported() -> None:
    """What a worker of Ray's has imported before it is measured."""
    import numpy as np
    import zarr  # noqa: F401 - so that its import is not timed

    np.ones((256, 256)) @ np.ones((256, 256))


def make(_name: str, _options: dict[str, Any]) -> WithRay:
    return WithRay()
