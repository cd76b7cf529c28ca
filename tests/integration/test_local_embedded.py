"""What the daemons of an embedded deployment are told, when it counts as idle, and the two small protocols with the parent."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.runtime.embedded import (
    LEAST_MEMORY_BYTES,
    Keys,
    Machine,
    child_specs,
    config_texts,
    cores_per_worker,
    daemon_environment,
    is_idle,
    memory_per_worker_bytes,
    standin_environment,
    this_machine,
)
from tilefleet import layout, sd_notify
from tilefleet.config import Config, CoordinatorSection, FleetSection, LocalSection, StoreSection, WorkerSection, parse
from tilefleet.ids import OPERATION_ID_LENGTH
from tilefleet.local_state import StateFiles
from tilefleet.quantities import Size
from tilefleet.records import Control, to_json
from tilefleet.toml import to_toml

GIB = 2**30
MACHINE = Machine(cores=8, memory_bytes=32 * GIB)
KEYS = Keys("access", "secret")
OPERATION = "7" * OPERATION_ID_LENGTH


@given(
    name=st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True),
    state_dir=st.text(st.characters(exclude_categories=["Cs"])),
    workers=st.integers(1, 64),
)
def test_a_configuration_survives_being_written(name: str, state_dir: str, workers: int) -> None:
    config = Config(
        fleet=FleetSection(name=name), local=LocalSection(state_dir=state_dir, workers=workers, memory=Size("600 MiB"))
    )
    assert parse(to_toml(config)) == (config, [])


def test_the_daemons_configurations_are_valid_and_the_users_otherwise(tmp_path: Path) -> None:
    config = Config(
        store=StoreSection(endpoint_url="http://127.0.0.1:4200", region="eu-north-1"),
        coordinator=CoordinatorSection(jobs_per_worker=7),
        worker=WorkerSection(name="mine", cores=64),
        local=LocalSection(workers=3),
    )
    files = StateFiles(tmp_path)
    texts = config_texts(config, files, MACHINE, "http://127.0.0.1:4100")
    assert sorted(path.name for path in texts) == ["daemon.toml", "workerd-1.toml", "workerd-2.toml", "workerd-3.toml"]
    for text in texts.values():
        parsed, mistakes = parse(text)
        assert mistakes == []
        assert (parsed.fleet.kind, parsed.store.url, parsed.store.allow_local_files) == ("remote", files.store.as_uri(), True)
        assert (parsed.store.endpoint_url, parsed.store.region) == ("http://127.0.0.1:4200", "eu-north-1"), "for s3:// operands"
        assert parsed.queues.endpoint_url == "http://127.0.0.1:4100"
        assert parsed.coordinator.jobs_per_worker == 7
        assert parsed.coordinator.drain.s == 10
    worker = parse(texts[files.config("workerd-2")])[0].worker
    assert (worker.name, worker.cores, worker.drain.s, worker.memory.bytes) == ("w2", 2, 10, 32 * GIB // 4 // 3 // 2**20 * 2**20)


def test_shares_of_the_machine() -> None:
    small = Machine(cores=1, memory_bytes=2 * GIB)
    assert cores_per_worker(Config(), small) == 1
    assert memory_per_worker_bytes(Config(), small) == LEAST_MEMORY_BYTES
    assert memory_per_worker_bytes(Config(local=LocalSection(memory=Size("600 MiB"))), small) == 600 * 2**20
    assert this_machine().cores >= 1
    assert this_machine().memory_bytes > 0


USERS = {
    "AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "t", "AWS_ENDPOINT_URL": "x", "AWS_CONFIG_FILE": "/home/u/.aws/config",
    "https_proxy": "p", "TILEFLEET_CONFIG": "c", "NOTIFY_SOCKET": "/run/n", "HOME": "/home/u", "LANG": "C",
}  # fmt: skip
OURS = {"TILEFLEET_CONFIG", "NOTIFY_SOCKET"}


def test_the_users_aws_is_for_the_daemons_stores_and_the_deployments_keys_for_their_queues() -> None:
    environment = daemon_environment(USERS, KEYS)
    assert {name: environment.get(name) for name in USERS} == USERS | dict.fromkeys(OURS)
    keys = {name: value for name, value in environment.items() if name.startswith("TILEFLEET_")}
    assert keys == {"TILEFLEET_QUEUES_ACCESS_KEY": "access", "TILEFLEET_QUEUES_SECRET_KEY": "secret"}


def test_nothing_of_the_users_aws_reaches_the_stand_in(tmp_path: Path) -> None:
    environment = standin_environment(USERS, KEYS)
    assert (environment["HOME"], environment["AWS_ACCESS_KEY_ID"]) == ("/home/u", "access")
    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", *OURS} & set(environment)
    specs = child_specs(Config(), StateFiles(tmp_path), 4100, USERS, KEYS)
    assert [spec.name for spec in specs] == ["queues", "coordinator", "w1", "w2"]
    assert not any("secret" in argument or "access" in argument for spec in specs for argument in spec.arguments)
    assert [spec.environment.get("AWS_PROFILE") for spec in specs] == [None, "work", "work", "work"]


class TestIdle:
    NOW = 1_000_000.0

    def beacon(self, store: Path, epoch: int, n_open: int, at: float = NOW) -> None:
        path = store / layout.control(epoch)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(to_json(Control(epoch=epoch, at=at, fleet="f", leader="l", version="1", n_open=n_open)))

    def test_an_empty_store(self, tmp_path: Path) -> None:
        assert is_idle(tmp_path, self.NOW)

    def test_an_open_operation_that_the_coordinator_has_not_seen_yet(self, tmp_path: Path) -> None:
        self.beacon(tmp_path, 1, 0)
        (tmp_path / "open").mkdir()
        (tmp_path / layout.open_mark(OPERATION)).touch()
        assert not is_idle(tmp_path, self.NOW)

    def test_what_a_killed_writer_left_is_not_an_operation(self, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / f"{layout.open_mark(OPERATION)}#1").touch()
        assert is_idle(tmp_path, self.NOW)

    def test_the_highest_epoch_is_believed(self, tmp_path: Path) -> None:
        self.beacon(tmp_path, 9, 1)
        self.beacon(tmp_path, 10, 0)
        assert is_idle(tmp_path, self.NOW)
        self.beacon(tmp_path, 11, 2)
        assert not is_idle(tmp_path, self.NOW)

    def test_the_beacon_of_a_coordinator_that_is_no_more(self, tmp_path: Path) -> None:
        self.beacon(tmp_path, 1, 2, at=self.NOW - 31)
        assert is_idle(tmp_path, self.NOW)

    def test_a_beacon_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "control").mkdir()
        (tmp_path / "control" / "000001.json").write_bytes(b"{")
        assert is_idle(tmp_path, self.NOW)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_notifications_arrive(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    name = str(tmp_path / "n.sock") if kind == "path" else f"@{tmp_path.name}-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1) if kind == "abstract" else name)
        assert sd_notify.notify("READY=1\nSTATUS=up")
        assert listener.recv(100) == b"READY=1\nSTATUS=up"


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sd_notify.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    assert not sd_notify.notify("READY=1")


def test_watchdog_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert sd_notify.watchdog_interval_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert sd_notify.watchdog_interval_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert sd_notify.watchdog_interval_s() is None


def test_defaults_need_no_text() -> None:
    assert to_toml(Config()) == ""
    assert msgspec.structs.asdict(parse("")[0]) == msgspec.structs.asdict(Config())
