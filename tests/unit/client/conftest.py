"""A client of a "remote" fleet whose store is a directory, so that local files are far files: they are uploaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.conftest import ACCESS_KEY, SECRET_KEY, Server
from tilefleet.client import Client
from tilefleet.config import Config, FleetSection, QueuesSection, StoreSection
from tilefleet.sqs import SqsQueues
from tilefleet.store import file_url


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


@pytest.fixture
def config(tmp_path: Path, fleet: str) -> Config:
    return Config(
        fleet=FleetSection(name=fleet, kind="remote"), store=StoreSection(url=file_url(tmp_path / "far"), allow_local_files=True)
    )


@pytest.fixture
async def queues(config: Config, moto_server: Server) -> AsyncIterator[SqsQueues]:
    settings = QueuesSection(endpoint_url=moto_server.endpoint_url)
    async with SqsQueues(settings, config.fleet.name, credentials=(ACCESS_KEY, SECRET_KEY)) as queues:
        await queues.ensure()
        yield queues


@pytest.fixture
async def client(config: Config, queues: SqsQueues, moto_server: Server) -> AsyncIterator[Client]:
    settings = QueuesSection(endpoint_url=moto_server.endpoint_url)
    async with Client(msgspec.structs.replace(config, queues=settings)) as client:
        yield client
