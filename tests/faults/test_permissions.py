"""Permissions that vanish while a product runs, and come back: of S3, of SQS, of both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.runtime.leadership import take_lead
from tests.conftest import Server
from tests.faults.proxy import Hurts, Proxy, between, only
from tests.faults.surroundings import Surroundings, said, surroundings
from tilefleet.config import StoreSection
from tilefleet.errors import NotAllowed
from tilefleet.store import Stores

STORE, QUEUES = "s3:", "sqs:"


@pytest.fixture
def far(tmp_path: Path, moto_server: Server) -> Iterator[Surroundings]:
    with surroundings(tmp_path, moto_server, "w1") as made:
        yield made


@pytest.mark.parametrize(
    "missing", [f"{STORE} {QUEUES}", *(pytest.param(name, marks=pytest.mark.thorough) for name in (STORE, QUEUES))]
)
def test_permissions_that_vanish_for_a_while_are_waited_for(far: Surroundings, missing: str) -> None:
    far.begin()
    for proxy in _proxies(far, missing):
        proxy.hurts = only("deny", 1.0)
    for service in missing.split():
        far.until_said("is not authorized to perform", service)
    refused = far.here.run("random", "9x9", far.url("refused.zarr"), "--seed", "1", "--no-wait")
    assert refused.returncode == NotAllowed.exit_code
    assert f"is not authorized to perform: {missing.split(maxsplit=1)[0]}" in said(refused)
    assert not far.is_over(), "it was in the middle of it"
    far.assert_ends_right()
    far.assert_nothing_failed()


def _proxies(far: Surroundings, missing: str) -> list[Proxy]:
    return [proxy for service, proxy in ((STORE, far.store), (QUEUES, far.queues)) if service in missing]


async def test_whoever_stands_by_waits_for_a_permission(moto_server: Server) -> None:
    with between(moto_server.endpoint_url, only("deny", 1.0)) as proxy:
        settings = StoreSection(endpoint_url=proxy.url, region="us-east-1")
        store = Stores(settings).open(f"s3://{moto_server.new_bucket()}/fleet")
        taking = asyncio.create_task(take_lead(store, 0.05, asyncio.Event()))
        while proxy.counts["deny"] < 3:
            await asyncio.sleep(0.01)
            assert not taking.done(), taking
        proxy.hurts = Hurts()
        assert await taking == 1
