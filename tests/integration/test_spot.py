"""A worker whose spot instance is taken away: the real daemon, the wire protocol of SQS, a metadata service on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Server
from tests.integration.metadata_service import MetadataService, metadata_service
from tests.integration.workerd_process import Scene, scene
from tilefleet.config import StoreSection
from tilefleet.matrix import Rect
from tilefleet.messages import Gemm, JobDone, WorkerBye, WorkerHeartbeat
from tilefleet.reading import Reader
from tilefleet.store import Stores


@pytest.fixture
async def here(tmp_path: Path, fleet: str, moto_server: Server) -> AsyncIterator[Scene]:
    async with scene(tmp_path, fleet, moto_server.endpoint_url) as made:
        yield made


@pytest.fixture
async def metadata() -> AsyncIterator[MetadataService]:
    async with metadata_service() as made:
        yield made


@pytest.mark.thorough
async def test_what_fits_is_finished_and_the_rest_is_done_elsewhere(here: Scene, metadata: MetadataService) -> None:
    taken = here.start(here.config("spot", metadata_url=f'"{metadata.url}"'))
    job = here.slow(0, 400)
    await here.send(job)
    held = await here.hear(WorkerHeartbeat, lambda message: bool(message.held))
    metadata.tokens.clear()  # it restarted: the worker asks for a new token
    metadata.interrupt(within_s=16)  # one second of work, then the margin
    bye = await here.hear(WorkerBye)
    assert bye.incarnation == held.incarnation
    assert bye.reason == "EC2 takes this spot instance away (terminate)"
    assert await here.exit_status(taken) == 75, "work was given back"
    (notice,) = [line for line in here.log("spot") if line["event"] == "spot_notice"]
    assert (notice["kind"], notice["action"]) == ("interruption", "terminate")
    assert not any(isinstance(message, JobDone) for message in here.heard)

    here.start(here.config("other"))
    done = await here.done(job)
    assert (done.worker, done.attempt) == ("other", 0)
    assert isinstance(job.work, Gemm)
    product = await Reader(Stores(StoreSection())).read(job.work.out, Rect(0, 1024, 0, 1024))
    np.testing.assert_array_equal(product, np.full((1024, 1024), 400 * 256.0))


async def test_a_recommendation_drains_and_nothing_is_lost(here: Scene, metadata: MetadataService) -> None:
    process = here.start(here.config("spot", metadata_url=f'"{metadata.url}"'))
    job = here.slow(0, 60)
    await here.send(job)
    await here.hear(WorkerHeartbeat, lambda message: bool(message.held))
    metadata.recommend()
    assert await here.exit_status(process) == 0, "systemd leaves it at that"
    await here.done(job)
    assert (await here.hear(WorkerBye)).reason == "EC2 recommends to leave this spot instance"
    await here.jobs_gone()


@pytest.mark.thorough
async def test_an_interruption_after_a_recommendation_shortens_the_drain(here: Scene, metadata: MetadataService) -> None:
    process = here.start(here.config("spot", metadata_url=f'"{metadata.url}"', drain='"10 m"'))
    await here.send(here.slow(0, 100_000))
    await here.hear(WorkerHeartbeat, lambda message: bool(message.held))
    metadata.recommend()
    await here.until(lambda: any(line["event"] == "draining" for line in here.log("spot")))
    metadata.interrupt(within_s=16)
    assert await here.exit_status(process) == 75
    assert [line["kind"] for line in here.log("spot") if line["event"] == "spot_notice"] == ["rebalance", "interruption"]


async def test_a_metadata_service_that_is_not_there_disturbs_nothing(here: Scene) -> None:
    here.start(here.config("spot", metadata_url='"http://127.0.0.1:9"'))
    job = here.job(0, here.random())
    await here.send(job)
    await here.done(job)
    await here.until(lambda: any(line["event"] == "metadata_unreachable" for line in here.log("spot")))
