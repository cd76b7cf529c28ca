"""``fleet sync`` while products are computed: no job fails, every node ends on the new version, and a bad one is rolled back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.nodes.person import UP_TIMEOUT_S, Person
from tests.nodes.standing import Product, StandingFleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NODES_FAILED = 13
RELEASED = ("tilefleet", "coordinator", "workerd", "systemd", "config", "pyproject.toml", "constraints.txt", "LICENSE")
DOES_NOT_START = "\n\nasync def run(*_):\n    raise TilefleetError('out of order on purpose')\n"
NewVersion = Callable[[str, str], None]


@pytest.fixture(scope="module")
def person(fleet_of_four: StandingFleet) -> Iterator[Person]:
    """Keeps two of the four machines: those that are no longer named are put back to what they were."""
    person = fleet_of_four.person
    before = person.told["hosts"]["addresses"]
    person.told["hosts"]["addresses"] = before[:2]
    person.configure(person.told)
    person.say("fleet", "up", timeout_s=UP_TIMEOUT_S)
    assert [node.run("ls /opt").split() for node in fleet_of_four.nodes[2:]] == [[], []]
    yield person
    person.told["hosts"]["addresses"] = before
    person.configure(person.told)


@pytest.fixture
def new_version(person: Person, tmp_path: Path) -> Iterator[NewVersion]:
    """Has the person install another tilefleet: ours, with some text at the end of a module."""
    ours = person.sources

    def install(module: str, text: str) -> None:
        person.sources = tmp_path / "sources"
        person.sources.mkdir()
        for name in RELEASED:
            copy = shutil.copytree if (ours / name).is_dir() else shutil.copy
            copy(ours / name, person.sources / name)
        with (person.sources / module).open("a", encoding="utf-8") as file:
            file.write(text)

    yield install
    person.sources = ours


def versions(fleet: StandingFleet) -> dict[str, str]:
    """Of each node, as its worker says it."""
    return {name: node["version"] for name, node in fleet.wait_for(n1="up", n2="up").items()}


def failed_jobs(fleet: StandingFleet) -> int:
    """Attempts that ended without a result, as the workers log them."""
    return sum(node.journal("workerd").count('"job_failed"') for node in fleet.nodes[:2])


def said_beside_products(person: Person, product: Product, words: tuple[str, ...], status: int) -> str:
    """What a command says, while one product after the other is computed: none may fail, and the last is looked at closely."""
    product.begin()
    command = person.start(*words, "--json")
    while command.poll() is None:
        product.wait()
        product.begin()
    product.end()
    assert command.stdout is not None
    said = command.stdout.read()
    command.stdout.close()
    assert command.returncode == status, said
    return said


@pytest.mark.thorough
def test_a_version_that_does_not_start_is_rolled_back_and_said(
    person: Person, product: Product, new_version: NewVersion, fleet_of_four: StandingFleet
) -> None:
    before = versions(fleet_of_four)
    new_version("workerd/startup.py", DOES_NOT_START)
    said = said_beside_products(person, product, ("fleet", "sync"), NODES_FAILED)
    assert "n1: did not come back from the update and was rolled back" in said
    assert "out of order on purpose" in said
    assert versions(fleet_of_four) == before, "n1 runs what it ran, and nobody touched n2"


def test_every_node_ends_on_the_new_version_and_no_job_fails(
    person: Person, product: Product, new_version: NewVersion, fleet_of_four: StandingFleet
) -> None:
    before, failed_before = versions(fleet_of_four), failed_jobs(fleet_of_four)
    new_version("workerd/__init__.py", "\nNUMBER = 2\n")
    said = said_beside_products(person, product, ("fleet", "sync"), 0)
    result = json.loads(said[said.index("{\n") :] if "{\n" in said else said.splitlines()[-1])
    assert (result["is_converged"], result["rolled_back"], result["coordinator"]["did"]) == (True, [], "restarted")
    after = versions(fleet_of_four)
    assert len(set(after.values())) == 1
    assert set(after.values()).isdisjoint(before.values())
    assert failed_jobs(fleet_of_four) == failed_before
