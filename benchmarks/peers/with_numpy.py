"""NumPy: load both matrices, compute, save. Its time for the arithmetic alone is told beside."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from benchmarks.peers.contract import Step, Told
from benchmarks.peers.opening import create_array, open_array


class WithNumpy:
    def warm(self) -> None:
        import numpy as np
        import zarr  # noqa: F401 - so that its import is not timed

        np.ones((256, 256)) @ np.ones((256, 256))

    def do(self, step: Step) -> Told:
        marks = [time.perf_counter()]
        a, b = open_array(step.a)[:], open_array(step.b)[:]
        marks.append(time.perf_counter())
        result = a @ b if step.kind == "multiply" else a + b
        marks.append(time.perf_counter())
        create_array(step.out, result.shape, result.dtype)[:] = result
        marks.append(time.perf_counter())
        load_s, compute_s, save_s = (end - start for start, end in pairwise(marks))
        return Told({"load": load_s, "compute": compute_s, "save": save_s})

    def processes(self) -> list[int]:
        return []

    def close(self) -> None: ...


def make(_name: str, _options: dict[str, Any]) -> WithNumpy:
    return WithNumpy()
