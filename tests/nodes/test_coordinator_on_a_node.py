"""``nodes.coordinator = "node"``: a fleet without the person's machine, whose coordinator looks after the others by itself."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from tests.nodes.machines import Node
from tests.nodes.person import UP_TIMEOUT_S, Person
from tests.nodes.standing import Product, StandingFleet, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.thorough, pytest.mark.timeout(600)]

ACTIVE = ["active", "active"]


@pytest.fixture(scope="module")
def person(fleet_of_four: StandingFleet) -> Iterator[Person]:
    """Whose coordinator is on the machine of the first worker, with a keeper that does not wait for long."""
    person, node = fleet_of_four.person, fleet_of_four.nodes[0]
    before = {name: dict(section) for name, section in person.told.items()}
    person.told["hosts"]["coordinator"] = f"{node.user}@{node.address}"
    person.told["nodes"]["replace_after"] = "10 s"
    person.configure(person.told)
    person.say("fleet", "up", "--coordinator", "node", timeout_s=UP_TIMEOUT_S)
    yield person
    person.configure(before)
    person.say("fleet", "up", "--coordinator", "here", timeout_s=UP_TIMEOUT_S)


@pytest.fixture
def nodes(fleet_of_four: StandingFleet) -> list[Node]:
    """All four; worker and coordinator are on the first."""
    return fleet_of_four.nodes


def test_it_leads_from_its_node_and_no_process_is_left_here(person: Person, nodes: list[Node]) -> None:
    assert nodes[0].run("systemctl is-active coordinator workerd").split() == ACTIVE
    told = person.told_by("fleet", "status")
    assert told["coordinator"]["leader"].startswith(f"{nodes[0].name}:")
    assert [(node["name"], node["role"]) for node in told["nodes"] if node["role"] == "coordinator"] == [("n5", "coordinator")]
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [words for words in running if str(person.directory) in " ".join(words)]


def test_products_are_computed(person: Person, product: Product) -> None:
    product.begin()
    assert product.end()["state"] == "done"


def test_its_keeper_sets_a_sick_worker_up_again(person: Person, nodes: list[Node]) -> None:
    sick = nodes[1]
    before = sick.run("stat --format=%Y /etc/tilefleet/environment; cat /etc/tilefleet/environment")
    sick.run("systemctl disable --now workerd; rm /etc/tilefleet/workerd.toml")
    wait_until(
        lambda: "active" in sick.run("systemctl is-active workerd || true").split(), lambda: nodes[0].journal("coordinator")
    )
    assert sick.run("systemctl is-enabled workerd").strip() == "enabled"
    assert sick.run("stat --format=%Y /etc/tilefleet/environment; cat /etc/tilefleet/environment") == before


def test_what_the_keeper_did_is_what_the_person_wants(person: Person) -> None:
    wait_until(
        lambda: person.told_by("fleet", "up", "--dry-run")["would"] == {"make": []},
        lambda: str(person.told_by("fleet", "up", "--dry-run")),
    )


def test_its_private_key_is_on_its_node_alone(person: Person, nodes: list[Node]) -> None:
    found = [node.run("find / -xdev -name id_ed25519 -not -path '/proc/*'").split() for node in nodes]
    assert found == [[f"/var/lib/tilefleet/.local/share/tilefleet/fleets/{person.name}/id_ed25519"], [], [], []]


def test_back_here_its_node_stays_a_worker(person: Person, nodes: list[Node], fleet_of_four: StandingFleet) -> None:
    person.say("fleet", "up", "--coordinator", "here", timeout_s=UP_TIMEOUT_S)
    first = nodes[0]
    assert first.run("systemctl is-active workerd").strip() == "active"
    assert "coordinator" not in first.run("ls /etc/tilefleet /etc/systemd/system; cat /etc/tilefleet/made")
    assert "id_ed25519" not in first.run("find /var/lib/tilefleet")
    assert {node["role"] for node in fleet_of_four.wait_for(n1="up", n2="up", n3="up", n4="up").values()} == {"worker"}
