"""``tilefleet fleet`` with EC2 from an account to a verified product and back, on instances that really boot."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.integration.fleet.ec2_account import Eyes
from tests.nodes.disks import Options
from tests.nodes.hypervisor import Hypervisor
from tests.nodes.machines import Network
from tests.nodes.person import UP_TIMEOUT_S, Person

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]

DEADLINE_S = 150.0


@pytest.fixture(scope="module")
def eyes(cloud: Server) -> Iterator[Eyes]:
    with Eyes(cloud.endpoint_url) as eyes:
        yield eyes


@pytest.fixture(scope="module")
def foreign(eyes: Eyes, cloud: Server) -> set[str]:
    """What the account holds besides: of the kinds that a fleet has, under names like its own."""
    image = eyes.ec2.describe_images()["Images"][0]["ImageId"]
    eyes.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    eyes.ec2.create_security_group(GroupName="tilefleet-fleet", Description="somebody else's")
    eyes.sqs.create_queue(QueueName="fleet-jobs")
    eyes.sqs.create_queue(QueueName="fleet-operations", tags={"tilefleet:fleet": "of-a-colleague"})
    eyes.iam.create_role(RoleName="tilefleet-fleet-node", AssumeRolePolicyDocument="{}")
    eyes.s3.create_bucket(Bucket="fleet-store")
    return eyes.inventory()


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory, network: Network, cloud: Server, foreign: set[str]) -> Iterator[Person]:
    """Somebody with an account, who has read the how-to."""
    person = Person.of_ec2(tmp_path_factory.mktemp("ec2-fleet"), network, cloud)
    yield person
    person.say("fleet", "down", "--yes", status=None)


@pytest.fixture(scope="module")
def ec2(person: Person, network: Network, cloud: Server, prepared_layer: Path) -> Iterator[Hypervisor]:
    with Hypervisor(network, cloud, person.name, person.directory, Options(layer=prepared_layer)) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def fleet(person: Person, ec2: Hypervisor) -> Person:
    """A fleet that is up."""
    person.say("fleet", "up", "--yes", timeout_s=UP_TIMEOUT_S)
    return person


def test_the_doctor_finds_nothing_that_keeps_it_from_being_made(person: Person, ec2: Hypervisor) -> None:
    assert "32 checks in all" in person.say("doctor").stdout


def test_a_dry_run_launches_nothing(person: Person, ec2: Hypervisor, eyes: Eyes, foreign: set[str]) -> None:
    found = person.told_by("fleet", "up", "--dry-run")
    assert found["would"]["launch"] == ["n1", "n2"]
    assert found["cost"].startswith("2 × c7i.xlarge on-demand: $")
    assert eyes.inventory() - foreign == {f"bucket {person.bucket}"} - foreign


def test_up_makes_two_green_workers_that_publish_their_own_host_keys(fleet: Person, ec2: Hypervisor, eyes: Eyes) -> None:
    assert sorted(ec2.nodes()) == ["n1", "n2"]
    for instance in ec2.instances():
        key = f"tiles/fleet/hostkeys/{instance['InstanceId']}"
        published = eyes.s3.get_object(Bucket=f"{fleet.name}-store", Key=key)["Body"].read().decode()
        assert published.split() == _node(ec2, instance).host_key.split()[:2]
    for node in ec2.nodes().values():
        assert node.run("systemctl is-active workerd tilefleet-deadman.timer").split() == ["active", "active"]
        assert node.run("cat /etc/tilefleet/deadman.env").split() == ["DEAD_MAN_S=1800", "LIFETIME_S=86400"]
    told = fleet.told_by("fleet", "status")
    assert _states(told) == {"n1": "up", "n2": "up"}
    assert told["spent_usd"] > 0
    assert told["troubles"] == []
    assert fleet.told_by("fleet", "up", "--dry-run")["would"] == {"make": []}


def test_a_product_is_computed_there_and_verified(fleet: Person) -> None:
    for name, seed in (("a.npy", "1"), ("b.npy", "2")):
        fleet.say("random", "500x400" if name == "a.npy" else "400x300", fleet.place(name), "--seed", seed)
    _multiply_and_verify(fleet, "c.npy")


def test_a_node_whose_machine_breaks_is_replaced_and_work_goes_on(fleet: Person, ec2: Hypervisor) -> None:
    ec2.lose(ec2.nodes()["n1"])
    _multiply_and_verify(fleet, "d.npy")
    _wait(lambda: _states(fleet.told_by("fleet", "status")) == {"n2": "up", "n3": "up"}, fleet)
    assert ec2.nodes()["n3"].run("systemctl is-active workerd").strip() == "active"
    _multiply_and_verify(fleet, "e.npy")


def test_stop_and_start_bring_the_nodes_back_with_other_addresses(fleet: Person, ec2: Hypervisor) -> None:
    before = {name: node.address for name, node in ec2.nodes().items()}
    fleet.say("fleet", "stop")
    off = fleet.told_by("fleet", "status")
    assert _states(off) == {"n2": "off", "n3": "off"}
    assert off["usd_per_hour"] == 0
    assert fleet.told_by("fleet", "start", "--yes")["is_converged"]
    _wait(lambda: _states(fleet.told_by("fleet", "status")) == {"n2": "up", "n3": "up"}, fleet)
    after = {node["name"]: node["address"] for node in fleet.told_by("fleet", "status")["nodes"]}
    assert after == {name: node.address for name, node in ec2.nodes().items()}
    assert all(after[name] != before[name] for name in before)
    assert "n2" in fleet.say("fleet", "exec", "cat /var/lib/cloud/data/instance-id").stdout


def test_without_a_coordinator_the_nodes_end_and_up_makes_others(fleet: Person, ec2: Hypervisor) -> None:
    fleet.told["ec2"]["dead_man"] = "12 s"
    fleet.configure(fleet.told)
    fleet.say("fleet", "sync")
    os.kill(fleet.told_by("fleet", "status")["coordinator"]["here_pid"], signal.SIGKILL)
    _wait(lambda: not ec2.instances(), fleet)
    fleet.told["ec2"]["dead_man"] = "30 m"
    fleet.configure(fleet.told)
    assert fleet.told_by("fleet", "up", "--yes", timeout_s=UP_TIMEOUT_S)["ready"] == ["n4", "n5"]
    _multiply_and_verify(fleet, "f.npy")


def test_down_leaves_the_account_as_it_was(fleet: Person, eyes: Eyes, foreign: set[str]) -> None:
    gone = fleet.told_by("fleet", "down", "--yes")
    assert (gone["left"], gone["missed"]) == ([], [])
    assert eyes.inventory(fleet.name) == set()
    assert eyes.inventory() - {f"bucket {fleet.bucket}"} == foreign - {f"bucket {fleet.bucket}"}
    assert fleet.told_by("info", fleet.place("f.npy"))["shape"] == [500, 300]


def _node(ec2: Hypervisor, instance: Any) -> Any:
    name = next(tag["Value"] for tag in instance["Tags"] if tag["Key"] == "tilefleet:node")
    return ec2.nodes()[name]


def _states(told: Any) -> dict[str, str]:
    return {node["name"]: node["state"] for node in told["nodes"]}


def _multiply_and_verify(fleet: Person, name: str) -> None:
    done = fleet.told_by("multiply", fleet.place("a.npy"), fleet.place("b.npy"), "-o", fleet.place(name))
    assert (done["state"], done["result"]["shape"]) == ("done", [500, 300])
    assert "is correct" in fleet.told_by("verify", done["id"])["verdict"]


def _wait(is_so: Callable[[], bool], fleet: Person) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, fleet.say("fleet", "status", status=None).stdout
        time.sleep(1)
