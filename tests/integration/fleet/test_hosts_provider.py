"""Machines that exist, with their records in a store and their host keys in a known_hosts file."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from coordinator.fleet.fleet import opened
from coordinator.fleet.hosts import HostsProvider
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.ports import Wanted
from coordinator.fleet.records import NodeRecord
from tilefleet.config import Config, FleetSection, StoreSection
from tilefleet.errors import BadConfig, DoesNotFit, NotFound
from tilefleet.fleet_config import HostsSection, NodesSection, SshSection
from tilefleet.store import Stores, file_url

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBhv0iS5Ybq6G8zBb0QOZb7LQX1Xvm7d5XoVZ0r0m1l2"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    (tmp_path / "store").mkdir()
    salt = b"0123456789abcdef0123"
    digest = hmac.new(salt, b"[192.0.2.2]:2222", hashlib.sha1).digest()
    hashed = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    (tmp_path / "known_hosts").write_text(f"{hashed} {KEY}\n")
    return Config(
        fleet=FleetSection(name="demo", kind="remote"),
        store=StoreSection(url=file_url(tmp_path / "store")),
        nodes=NodesSection(provider="hosts"),
        hosts=HostsSection(addresses=("ada@192.0.2.1", "192.0.2.2:2222")),
        ssh=SshSection(known_hosts=str(tmp_path / "known_hosts")),
    )


def provider(config: Config) -> HostsProvider:
    return HostsProvider(config, NodeStore(Stores(config.store).open(config.store.url)))


async def test_machines_are_those_that_are_named_or_that_have_a_record(config: Config) -> None:
    nodes = NodeStore(Stores(config.store).open(config.store.url))
    await nodes.claim(NodeRecord("n1", "192.0.2.2:2222", "ready"))
    await nodes.claim(NodeRecord("n2", "192.0.2.77", "ready"))
    machines = await provider(config).machines()
    assert [(machine.node, machine.id, machine.state) for machine in machines] == [
        ("n1", "192.0.2.2:2222", "running"), ("n2", "192.0.2.77", "running"), ("n3", "ada@192.0.2.1", "running"),
    ]  # fmt: skip


async def test_host_keys_are_those_of_known_hosts_hashed_or_not_and_never_the_machines_word(config: Config) -> None:
    first, second = await provider(config).machines()
    assert await provider(config).host_keys(second) == (KEY,)
    with pytest.raises(NotFound, match=r"no host key of ada@192\.0\.2\.1; connect once by hand \(ssh 192\.0\.2\.1\)"):
        await provider(config).host_keys(first)


async def test_nothing_is_launched_switched_or_owned(config: Config) -> None:
    hosts = provider(config)
    made, refused = await hosts.launch([Wanted("n9")])
    assert made == []
    assert [each.node for each in refused] == ["n9"]
    with pytest.raises(DoesNotFit, match="does not switch on or off"):
        await hosts.stop(await hosts.machines())
    assert await hosts.belongings() == []
    assert await hosts.price() is None


async def test_a_fleet_is_opened_from_its_configuration(config: Config) -> None:
    async with opened(config) as fleet:
        assert isinstance(fleet.provider, HostsProvider)
        assert fleet.files.root.stat().st_mode & 0o777 == 0o700
    with pytest.raises(BadConfig, match=r"set nodes\.provider"):
        async with opened(Config()):
            raise AssertionError("it has no machines")
