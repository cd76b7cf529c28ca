"""Dask array, on threads of this process or on a LocalCluster of two processes, as its documentation has it.

One BLAS thread for each of Dask's, which its documentation asks for and its nannies set themselves.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.peers.contract import Step, Told
from benchmarks.peers.opening import create_array, open_array


class WithDask:
    def __init__(self, *, is_cluster: bool) -> None:
        self._is_cluster = is_cluster
        self._cluster: Any = None
        self._client: Any = None

    def warm(self) -> None:
        import dask
        import dask.array as da
        from threadpoolctl import threadpool_limits

        if self._is_cluster:
            from distributed import Client, LocalCluster

            self._cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
            self._client = Client(self._cluster)
        else:
            threadpool_limits(1, "blas")
            dask.config.set(scheduler="threads", num_workers=os.cpu_count())
        ones = da.ones((512, 512), chunks=256)
        (ones @ ones).compute()

    def do(self, step: Step) -> Told:
        import dask.array as da

        a, b = (da.from_array(open_array(url), chunks="auto" if step.more.get("auto") else open_array(url).chunks)
                for url in (step.a, step.b))  # fmt: skip
        result = a @ b if step.kind == "multiply" else a + b
        out = create_array(step.out, result.shape, result.dtype)
        da.store(result.rechunk(out.chunks), out, lock=False)
        return Told()

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._cluster.close()


def make(name: str, _options: dict[str, Any]) -> WithDask:
    return WithDask(is_cluster=name == "dask-cluster")
