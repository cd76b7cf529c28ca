"""A fleet of spot instances with its coordinator on a node of its own: it looks after the others by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.nodes.disks import Options
from tests.nodes.hypervisor import Hypervisor
from tests.nodes.machines import Network
from tests.nodes.person import UP_TIMEOUT_S, Person

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]

DEADLINE_S = 150.0


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory, network: Network, cloud: Server) -> Iterator[Person]:
    person = Person.of_ec2(tmp_path_factory.mktemp("ec2-coordinator"), network, cloud, ec2={"market": "spot"}, nodes={"count": 1})
    yield person
    person.say("fleet", "down", "--yes", status=None)


@pytest.fixture(scope="module")
def ec2(person: Person, network: Network, cloud: Server, prepared_layer: Path) -> Iterator[Hypervisor]:
    with Hypervisor(network, cloud, person.name, person.directory, Options(layer=prepared_layer)) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def fleet(person: Person, ec2: Hypervisor) -> Person:
    """A fleet that is up."""
    person.say("fleet", "up", "--yes", "--coordinator", "node", timeout_s=UP_TIMEOUT_S)
    return person


def test_it_leads_from_an_on_demand_instance_and_the_worker_is_spot(fleet: Person, ec2: Hypervisor) -> None:
    told = fleet.told_by("fleet", "status")
    assert {node["name"]: (node["role"], node["market"], node["state"]) for node in told["nodes"]} == {
        "n1": ("coordinator", "on-demand", "up"), "n2": ("worker", "spot", "up"),
    }  # fmt: skip
    assert (told["coordinator"]["state"], told["coordinator"]["here_pid"]) == ("leads", None)
    assert ec2.nodes()["n1"].run("systemctl is-active coordinator").strip() == "active"


def test_its_keeper_replaces_a_node_that_ec2_recommends_to_leave(fleet: Person, ec2: Hypervisor) -> None:
    ec2.tell(ec2.nodes()["n2"], "meta-data/events/recommendations/rebalance", '{"noticeTime": "2026-11-22T21:00:00Z"}')
    _wait(lambda: _states(fleet) == {"n1": "up", "n3": "up"}, ec2)
    assert [one["InstanceLifecycle"] for one in ec2.instances() if "InstanceLifecycle" in one] == ["spot"]
    keeper = next(one["PrivateIpAddress"] for one in ec2.instances() if "InstanceLifecycle" not in one)
    assert f"from {keeper} port" in ec2.nodes()["n3"].journal("ssh"), "it was set up from within the VPC"
    for name, shape, seed in (("a.npy", "300x200", "1"), ("b.npy", "200x250", "2")):
        fleet.say("random", shape, fleet.place(name), "--seed", seed)
    done = fleet.told_by("multiply", fleet.place("a.npy"), fleet.place("b.npy"), "-o", fleet.place("c.npy"))
    assert (done["state"], done["workers"]) == ("done", ["n3"])
    assert "is correct" in fleet.told_by("verify", done["id"])["verdict"]


def test_down_ends_the_coordinator_too(fleet: Person, ec2: Hypervisor) -> None:
    gone = fleet.told_by("fleet", "down", "--yes")
    assert (gone["left"], gone["missed"], ec2.instances()) == ([], [], [])


def _states(fleet: Person) -> dict[str, Any]:
    return {node["name"]: node["state"] for node in fleet.told_by("fleet", "status")["nodes"]}


def _wait(is_so: Callable[[], bool], ec2: Hypervisor) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, ec2.nodes()["n1"].journal("coordinator")
        time.sleep(1)
