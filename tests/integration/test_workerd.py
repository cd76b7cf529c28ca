"""The real daemon against the real wire protocol of SQS and a directory store; the test is the coordinator."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Server
from tests.integration.workerd_process import Scene, scene
from tilefleet.config import StoreSection
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Elementwise, Gemm, Publish, Term, WorkerBye, WorkerHeartbeat, WorkerHello
from tilefleet.reading import Reader
from tilefleet.store import Stores


@pytest.fixture
async def fleet_scene(tmp_path: Path, fleet: str, moto_server: Server) -> AsyncIterator[Scene]:
    async with scene(tmp_path, fleet, moto_server.endpoint_url) as made:
        yield made


async def test_random_gemm_elementwise_publish(fleet_scene: Scene) -> None:
    """What the main job needs of a worker, in the order a coordinator would send it."""
    here = fleet_scene
    process = here.start(here.config("w1"))
    hello = await here.hear(WorkerHello)
    assert hello.worker == "w1" and hello.cores == 1 and hello.flops_per_s > 0
    assert 0 < hello.memory_bytes < 600 * 2**20

    a = here.random(300, "a")
    job = here.job(0, a)
    await here.send(job)
    done = await here.done(job)
    assert done.times.bytes_written > 300 * 300 * 8

    whole = Rect(0, 300, 0, 300)
    product = MatrixRef(f"{here.store_url}/matrices/p", "zarr", (300, 300), "float64", (128, 128), is_ours=True)
    gemm = here.job(1, Gemm(Operand(a.out), Operand(a.out, is_transposed=True), product, whole, 0, 300, 100, "float64"))
    total = MatrixRef(f"{here.store_url}/matrices/t", "zarr", (300, 300), "float64", (128, 128), is_ours=True)
    terms = (Term(Operand(product)), Term(Operand(a.out), "2"))
    add = here.job(2, Elementwise(terms, total, whole))
    publish = here.job(3, Publish(total, add.operation), stage="publish")
    await here.send(gemm)
    done = await here.done(gemm)
    assert done.check_worst is not None and done.check_worst < 1
    assert done.times.flops == 2 * 300**3
    await here.send(add)
    await here.done(add)
    await here.send(publish)
    await here.done(publish)
    reader = Reader(Stores(StoreSection()))
    x, found = await reader.read(a.out, whole), await reader.read(total, whole)
    np.testing.assert_allclose(found, x @ x.T + 2 * x, rtol=1e-12)
    assert await here.store.head("matrices/t/zarr.json")
    assert await here.queues.jobs.count() == (0, 0)

    process.send_signal(signal.SIGTERM)
    assert await here.exit_status(process) == 0
    await here.hear(WorkerBye)
    lines = [line for line in here.log("w1") if line["event"] == "job_done"]
    assert [line["work"] for line in lines] == ["random", "gemm", "elementwise", "publish"]
    assert {line["worker"] for line in lines} == {"w1"}
    assert await here.hear(WorkerHeartbeat)
