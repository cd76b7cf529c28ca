"""cubed, on its executor of threads, with a quarter of the machine's memory allowed to each of them."""

from __future__ import annotations

import os
import shutil
from typing import Any

from benchmarks import places
from benchmarks.peers.contract import Step, Told
from benchmarks.peers.opening import store_of


class WithCubed:
    def __init__(self) -> None:
        self._directory = places.STATES / "cubed"
        self._spec: Any = None

    def warm(self) -> None:
        import cubed
        import cubed.array_api as xp
        import psutil
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, "blas")  # as for Dask: its executor has a thread for each core
        cores = os.cpu_count() or 1
        self._spec = cubed.Spec(
            work_dir=str(self._directory), allowed_mem=psutil.virtual_memory().total // 4, executor_name="threads",
            executor_options={"max_workers": cores}, zarr_compressor=None,
        )  # fmt: skip
        ones = xp.ones((512, 512), chunks=256, spec=self._spec)
        xp.matmul(ones, ones).compute()

    def do(self, step: Step) -> Told:
        import cubed
        import cubed.array_api as xp

        a, b = (cubed.from_zarr(store_of(url, is_read_only=True), spec=self._spec) for url in (step.a, step.b))
        result = xp.matmul(a, b) if step.kind == "multiply" else xp.add(a, b)
        cubed.to_zarr(result, store_of(step.out))
        shutil.rmtree(self._directory, ignore_errors=True)
        return Told()

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


def make(_name: str, _options: dict[str, Any]) -> WithCubed:
    return WithCubed()
