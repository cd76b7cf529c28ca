"""The coordinator beside the command line: a real process, with queues of the stand-in and a store in a directory."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from coordinator.fleet import here
from coordinator.fleet.files import FleetFiles
from coordinator.runtime.leadership import beacon, newest_epoch
from tests.conftest import Server
from tilefleet.config import Config, CoordinatorSection, FleetSection, QueuesSection, StoreSection
from tilefleet.errors import BadConfig
from tilefleet.fleet_config import HostsSection, NodesSection, SshSection
from tilefleet.quantities import Duration
from tilefleet.store import Store, Stores, file_url


@pytest.fixture
def config(tmp_path: Path, fleet: str, moto_server: Server) -> Config:
    (tmp_path / "store").mkdir()
    return Config(
        fleet=FleetSection(name=fleet, kind="remote"),
        store=StoreSection(url=file_url(tmp_path / "store")),
        queues=QueuesSection(endpoint_url=moto_server.endpoint_url),
        coordinator=CoordinatorSection(beacon=Duration("200 ms")),
        nodes=NodesSection(provider="hosts"),
        hosts=HostsSection(addresses=("192.0.2.1",)),
    )


@pytest.fixture
def store(config: Config) -> Store:
    return Stores(config.store).open(config.store.url)


@pytest.fixture
async def files(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FleetFiles]:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    files = FleetFiles(config.fleet.name)
    yield files
    await here.stop(config, files)


async def test_it_is_started_once_and_leads(config: Config, files: FleetFiles, store: Store) -> None:
    first = await here.ensure(config, files, store)
    assert (first.did, first.leads) == ("started", True)
    assert here.running_pid(files) == first.pid
    again = await here.ensure(config, files, store)
    assert again == first._replace(did="found")
    seen = await beacon(store, await newest_epoch(store))
    assert seen is not None
    assert seen.leader == here.leader_name(first.pid)
    for path in (files.coordinator_log, files.coordinator_config, files.coordinator_lock):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_another_configuration_takes_its_place(config: Config, files: FleetFiles, store: Store) -> None:
    first = await here.ensure(config, files, store)
    changed = msgspec.structs.replace(config, coordinator=msgspec.structs.replace(config.coordinator, jobs_per_worker=5))
    second = await here.ensure(changed, files, store)
    assert (second.did, second.leads) == ("restarted", True)
    assert second.pid != first.pid
    assert "jobs_per_worker = 5" in files.coordinator_config.read_text()


async def test_it_is_stopped_and_stopping_again_is_no_error(config: Config, files: FleetFiles, store: Store) -> None:
    running = await here.ensure(config, files, store)
    assert await here.stop(config, files)
    assert here.running_pid(files) is None
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)
    assert not await here.stop(config, files)
    resigned = await beacon(store, await newest_epoch(store))
    assert resigned is not None
    assert not resigned.leader, "the next coordinator need not wait"


async def test_one_that_was_killed_is_replaced(config: Config, files: FleetFiles, store: Store) -> None:
    first = await here.ensure(config, files, store)
    os.kill(first.pid, signal.SIGKILL)
    while here.running_pid(files) is not None:  # noqa: ASYNC110  the kernel is just letting go of its lock
        await asyncio.sleep(0.01)
    second = await here.ensure(config, files, store)
    assert (second.did, second.leads) == ("started", True)


async def test_one_that_cannot_start_says_why(config: Config, files: FleetFiles, store: Store) -> None:
    wrong = msgspec.structs.replace(config, queues=msgspec.structs.replace(config.queues, lease=Duration("5 s")))
    with pytest.raises(BadConfig, match=r"queues\.lease.*must be between 10 s and 120 s"):
        await here.ensure(wrong, files, store)
    assert here.running_pid(files) is None


async def test_one_that_stands_by_says_for_whom(
    config: Config, files: FleetFiles, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await here.ensure(config, files, store)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "of-somebody-else"))
    theirs = FleetFiles(config.fleet.name)
    try:
        second = await here.ensure(config, theirs, store)
        assert second.pid != first.pid
        assert (second.did, second.leads, second.leader) == ("started", False, first.leader)
    finally:
        await here.stop(config, theirs)


async def test_it_hands_over_to_the_one_that_stands_by(
    config: Config, files: FleetFiles, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await here.hand_over(config, files, store) is None
    await here.ensure(config, files, store)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "of-somebody-else"))
    theirs = FleetFiles(config.fleet.name)
    try:
        second = await here.ensure(config, theirs, store)
        assert await here.hand_over(config, files, store)
        seen = await beacon(store, await newest_epoch(store))
        assert seen is not None
        assert seen.leader == here.leader_name(second.pid)
        monkeypatch.setattr(here, "LEAD_DEADLINE_S", 1.0)
        assert await here.hand_over(config, theirs, store) is False
    finally:
        await here.stop(config, theirs)


def test_files_are_named_as_they_are_found_from_anywhere(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = msgspec.structs.replace(config, ssh=SshSection(key_file="labsuser.pem", known_hosts="~/.ssh/known_hosts"))
    text = here.config_text(relative)
    assert f'key_file = "{tmp_path}/labsuser.pem"' in text
    assert f'known_hosts = "{Path("~/.ssh/known_hosts").expanduser()}"' in text
