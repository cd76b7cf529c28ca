"""``fleet up`` on nine machines, eight of which something is wrong with: each gives its sentence, and the good one is a node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.nodes.disks import Options
from tests.nodes.machines import Network, Node
from tests.nodes.person import PACKAGES, UP_TIMEOUT_S, Person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NODES_FAILED = 13
BOOT_S = 10
CLOSED_PORT = 2222
HANGING = r"printf '#!/bin/sh\necho waiting for the network >&2\nsleep 4242\n' >/usr/bin/cloud-init; chmod +x /usr/bin/cloud-init"


@pytest.fixture(scope="module")
def machines(network: Network, prepared_layer: Path) -> Iterator[dict[str, Node]]:
    """By what is wrong with them."""
    options = {
        "good": Options(layer=prepared_layer),
        "another host key": Options(is_imposter=True),
        "another key of ours": Options(),
        "no sudo": Options(has_sudo=False),
        "a full disk": Options(disk_mib=300),
        "no Python": Options(has_python=False),
        "a step that hangs": Options(layer=prepared_layer),
    }
    nodes = {what: network.add_node(each) for what, each in options.items()}
    for node in nodes.values():
        node.start()
    for node in nodes.values():
        node.wait_until_up()
    nodes["another key of ours"].run(f"truncate --size=0 /home/{Node.user}/.ssh/authorized_keys")
    nodes["a step that hangs"].run(HANGING)
    yield nodes
    for node in nodes.values():
        node.remove()


@pytest.fixture(scope="module")
def person(
    tmp_path_factory: pytest.TempPathFactory, network: Network, machines: dict[str, Node], cloud: Server
) -> Iterator[Person]:
    """Names them all, a port that is closed, and a name that nobody has."""
    directory = tmp_path_factory.mktemp("refusals")
    person = Person(directory, network, machines.values(), cloud, nodes={"boot": f"{BOOT_S} s", "attempts": 1})
    good = machines["good"]
    person.told["hosts"]["addresses"] += [f"{good.user}@{good.address}:{CLOSED_PORT}", f"{good.user}@nowhere.invalid"]
    person.configure(person.told)
    with (directory / "known_hosts").open("a", encoding="utf-8") as known:
        known.write(f"[{good.address}]:{CLOSED_PORT} {good.host_key}\nnowhere.invalid {good.host_key}\n")
    _keep_no_interpreters(directory / "state" / "cache")
    yield person
    person.say("fleet", "stop", status=None)  # ends the coordinator; the machines go too


@pytest.fixture(scope="module")
def result(person: Person) -> dict[str, Any]:
    """What the one command said."""
    done = person.say("fleet", "up", "--json", status=NODES_FAILED, timeout_s=UP_TIMEOUT_S)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"error": json.loads(done.stderr.splitlines()[-1])["error"]}


SENTENCES = {
    "n2": ("reach", "proves another host key than the one that is known: ssh-ed25519 SHA256:"),
    "n3": ("reach", "in with none of these keys: "),
    "n4": ("reach", "may not become root without a password"),
    "n5": ("inspect", "its disk is full: "),
    "n6": ("python", "it has no Python 3.11 to 3.13; "),
    "n7": ("cloud-init", f"did not end within {BOOT_S}.0 s; it last said: waiting for the network"),
    "n8": ("reach", f"refuses connections to port {CLOSED_PORT} (tried for "),
    "n9": ("reach", "the name nowhere.invalid does not resolve"),
}


@pytest.mark.parametrize("node", SENTENCES)
def test_each_machine_gives_its_sentence(result: dict[str, Any], node: str) -> None:
    failure = next(failure for failure in result["failures"] if failure["node"] == node)
    step, sentence = SENTENCES[node]
    assert failure["step"] == step
    assert sentence in failure["sentence"]
    assert f"{node}: {step}: " in result["error"]["sentence"]


def test_they_do_not_hold_up_the_good_one(result: dict[str, Any], person: Person, machines: dict[str, Node]) -> None:
    assert (result["ready"], result["is_converged"], len(result["failures"])) == (["n1"], False, len(SENTENCES))
    assert "1 of 9 nodes is up; run the same command again" in result["error"]["sentence"]
    assert machines["good"].run("systemctl is-active workerd").strip() == "active"
    told = {node["name"]: node for node in person.told_by("fleet", "status")["nodes"]}
    assert told.pop("n1")["state"] == "up"
    assert {name: node["state"] for name, node in told.items()} == dict.fromkeys(SENTENCES, "failed")
    assert SENTENCES["n5"][1] in told["n5"]["sentence"]


def test_what_was_mended_is_a_node_after_the_same_command(
    result: dict[str, Any], person: Person, machines: dict[str, Node]
) -> None:
    del result
    machines["a step that hangs"].run("rm /usr/bin/cloud-init")
    again = json.loads(person.say("fleet", "up", "--json", status=NODES_FAILED, timeout_s=UP_TIMEOUT_S).stdout)
    assert again["ready"] == ["n1", "n7"]


def _keep_no_interpreters(cache: Path) -> None:
    """The packages of all persons, but no place for a Python: fetching one would make this test depend on the internet."""
    cache.unlink()
    cache.mkdir()
    for name in ("wheelhouses", "releases"):
        (PACKAGES / name).mkdir(exist_ok=True)
        (cache / name).symlink_to(PACKAGES / name)
    (cache / "interpreters").touch()
