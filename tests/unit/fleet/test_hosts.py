"""Machines that exist: their names stay theirs, their addresses are checked, and nothing of theirs is switched."""

from __future__ import annotations

import pytest

from coordinator.fleet.hosts import check, machine_of, named_nodes
from coordinator.fleet.records import NodeRecord
from tilefleet.errors import BadConfig
from tilefleet.fleet_config import HostsSection

HOSTS = HostsSection(addresses=("ada@192.0.2.1", "192.0.2.2:2222", "[2001:db8::1]:22"), coordinator="192.0.2.9")


def test_names_go_by_position_the_first_time() -> None:
    assert named_nodes(HOSTS, ()) == [
        ("n1", "worker", "ada@192.0.2.1"), ("n2", "worker", "192.0.2.2:2222"), ("n3", "worker", "[2001:db8::1]:22"),
    ]  # fmt: skip
    assert named_nodes(HOSTS, (), has_coordinator=True)[3] == ("n4", "coordinator", "192.0.2.9")


def test_an_address_keeps_its_name_whatever_comes_before_it_and_a_new_one_gets_a_new_name() -> None:
    records = [NodeRecord("n1", "ada@192.0.2.1"), NodeRecord("n2", "192.0.2.2:2222"), NodeRecord("n3", "gone", ended_at=9.0)]
    hosts = HostsSection(addresses=("new", "192.0.2.2:2222", "ada@192.0.2.1"))
    assert named_nodes(hosts, records) == [
        ("n1", "worker", "ada@192.0.2.1"), ("n2", "worker", "192.0.2.2:2222"), ("n4", "worker", "new"),
    ]  # fmt: skip
    assert named_nodes(HostsSection(addresses=("new",)), (), next_node=12) == [("n12", "worker", "new")]


def test_a_machine_no_longer_named_is_shown_while_its_record_lives() -> None:
    records = [NodeRecord("n1", "old"), NodeRecord("n2", "older", ended_at=9.0)]
    assert named_nodes(HostsSection(addresses=("new",)), records) == [("n1", "worker", "old"), ("n3", "worker", "new")]


def test_a_machine_may_be_worker_and_coordinator_and_is_two_nodes_then() -> None:
    hosts = HostsSection(addresses=("a",), coordinator="a")
    assert named_nodes(hosts, (), has_coordinator=True) == [("n1", "worker", "a"), ("n2", "coordinator", "a")]
    records = [NodeRecord("n1", "a", role="coordinator")]
    assert named_nodes(hosts, records, has_coordinator=True) == [("n1", "coordinator", "a"), ("n2", "worker", "a")]


def test_an_address_says_where_and_as_whom() -> None:
    machine = machine_of("n2", "worker", "ada@[2001:db8::1]:2222", user="bob")
    assert (machine.address, machine.port, machine.user, machine.id) == ("2001:db8::1", 2222, "ada", "ada@[2001:db8::1]:2222")
    assert machine.state == "running"
    assert machine_of("n1", "worker", "192.0.2.1", user="bob").user == "bob"
    assert machine_of("n1", "worker", "192.0.2.1").user


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (("-oProxyCommand=evil",), "is no address"),
        (("a", "a"), "same machine"),
        (("ada@a", "bob@A:22"), "'bob@A:22' is the same machine as 'ada@a'"),
    ],
)
def test_mistakes_in_addresses_are_named(addresses: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        check(HostsSection(addresses=addresses))
    check(HOSTS)
