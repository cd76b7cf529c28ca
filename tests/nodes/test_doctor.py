"""tilefleet doctor about machines of one's own: what is wrong with a real node is found before anything is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.nodes.conftest import NewNode
from tests.nodes.disks import Options
from tests.nodes.machines import Network, Node
from tests.nodes.person import Person

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

UNHEALTHY = 14


def findings(person: Person) -> dict[str, Any]:
    """Findings about machines, by their address."""
    done = person.say("doctor", "--json", status=None)
    assert done.returncode in {0, UNHEALTHY}, done.stderr

    return {one["check"]: one for one in json.loads(done.stdout)["findings"] if one["area"] == "hosts"}


def named(node: Node) -> str:
    return f"{node.user}@{node.address}"


@pytest.fixture
def ask(tmp_path: Path, network: Network, cloud: Server) -> Any:
    def about(*nodes: Node, **sections: dict[str, Any]) -> dict[str, Any]:
        return findings(Person(tmp_path, network, nodes, cloud, **sections))

    return about


def test_a_bare_node_is_well_and_stays_bare(ask: Any, new_node: NewNode) -> None:
    node = new_node()
    found = ask(node)
    assert found[named(node)]["state"] == "ok", found
    assert "Debian" in found[named(node)]["sentence"]
    assert "Python 3.11" in found[named(node)]["sentence"]
    assert "tilefleet" not in node.run("ls /opt /etc")


def test_each_of_several_is_told_apart(ask: Any, new_node: NewNode) -> None:
    well, no_sudo, small = new_node(), new_node(has_sudo=False), new_node(disk_mib=600)
    found = ask(well, no_sudo, small)
    assert found[named(well)]["state"] == "ok"
    assert "may not become root without a password" in found[named(no_sudo)]["sentence"]
    assert (found[named(small)]["state"], "free on the disk of /opt" in found[named(small)]["sentence"]) == ("failure", True)


def test_a_node_without_python_is_given_one(ask: Any, new_node: NewNode) -> None:
    node = new_node(has_python=False)
    found = ask(node)
    assert (found[named(node)]["state"], "a Python will be brought" in found[named(node)]["sentence"]) == ("ok", True)


def test_an_imposter_is_told_nothing(ask: Any, new_node: NewNode) -> None:
    node = new_node(is_imposter=True)
    assert "proves another host key than the one that is known" in ask(node)[named(node)]["sentence"]


def test_a_node_that_is_switched_off(ask: Any, network: Network) -> None:
    node = network.add_node(Options())
    try:
        found = ask(node, ssh={"connect": "1 s"})
        assert (found[named(node)]["state"], str(node.address) in found[named(node)]["sentence"]) == ("failure", True)
    finally:
        node.remove()


def test_worker_memory_that_a_node_does_not_have(ask: Any, new_node: NewNode) -> None:
    node = new_node()
    assert "worker.memory is 4000 GiB" in ask(node, worker={"memory": "4000 GiB"})[named(node)]["sentence"]
