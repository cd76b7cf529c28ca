"""``tilefleet fleet``, from nothing but sshd on four machines to a verified product, and back to nothing but sshd."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.conftest import Server
from tests.nodes.machines import Network, Node
from tests.nodes.person import UP_TIMEOUT_S, Person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ["n1", "n2", "n3", "n4"]
HEARD_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory, network: Network, four_nodes: list[Node], cloud: Server) -> Iterator[Person]:
    person = Person(tmp_path_factory.mktemp("fleet-up"), network, four_nodes, cloud)
    yield person
    person.say("fleet", "down", "--yes", status=None)  # ends the coordinator, whatever became of the tests


@pytest.fixture(scope="module")
def fleet(person: Person) -> Person:
    """A fleet that is up."""
    person.say("fleet", "up", timeout_s=UP_TIMEOUT_S)
    return person


def test_a_dry_run_makes_nothing_and_says_what_would_be_made(person: Person, four_nodes: list[Node]) -> None:
    found = person.told_by("fleet", "up", "--dry-run")
    assert found["would"]["set up"] == NAMES
    assert "nothing is launched" in found["cost"]
    assert not person.told_by("fleet", "status")["is_made"]
    for node in four_nodes:
        assert "tilefleet" not in node.run("ls /opt /etc")


def test_up_makes_four_green_workers(fleet: Person, four_nodes: list[Node]) -> None:
    for node in four_nodes:
        assert node.run("systemctl is-active workerd").strip() == "active"
    told = fleet.told_by("fleet", "status")
    assert [(node["name"], node["state"]) for node in told["nodes"]] == [(name, "up") for name in NAMES]
    assert {node["address"] for node in told["nodes"]} == {node.address for node in four_nodes}
    assert len({node["version"] for node in told["nodes"]}) == 1
    assert told["coordinator"]["state"] == "leads"
    assert set(told["queues"]) == {f"{fleet.name}-{which}" for which in ("operations", "jobs", "completions")}
    assert told["troubles"] == []


def test_up_again_finds_everything_there(fleet: Person) -> None:
    assert fleet.told_by("fleet", "up", "--dry-run")["would"] == {"make": []}
    again = fleet.told_by("fleet", "up")
    assert (again["is_converged"], again["ready"], again["coordinator"]["did"]) == (True, NAMES, "found")


def test_a_product_is_computed_there_and_verified(fleet: Person) -> None:
    for name, seed in (("a.npy", "1"), ("b.npy", "2")):
        fleet.say("random", "700x500" if name == "a.npy" else "500x600", fleet.place(name), "--seed", seed)
    done = fleet.told_by("multiply", fleet.place("a.npy"), fleet.place("b.npy"), "-o", fleet.place("c.npy"))
    assert (done["state"], done["result"]["shape"]) == ("done", [700, 600])
    assert set(done["workers"]) <= set(NAMES)
    assert "is correct" in fleet.told_by("verify", done["id"])["verdict"]


def test_logs_are_followed_on_all_nodes_in_the_order_of_time(fleet: Person) -> None:
    following = fleet.start("fleet", "logs", "-f", "--json")
    assert following.stdout is not None
    try:
        lines = list(_until_all_were_heard(following.stdout))
    finally:
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=30)
    assert {line["node"] for line in lines} == set(NAMES)
    stamps = [line["time"] for line in lines]
    assert stamps == sorted(stamps)


def test_a_command_runs_on_all_nodes_as_root(fleet: Person, four_nodes: list[Node]) -> None:
    said = fleet.say("fleet", "exec", "uname -n; id -un").stdout
    for node in four_nodes:
        assert node.name in said
    assert said.count("root") == len(four_nodes)


def test_a_machine_that_is_off_and_a_worker_that_is_stopped_are_told_apart(fleet: Person, four_nodes: list[Node]) -> None:
    dark, idle = four_nodes[2], four_nodes[3]
    dark.cut()
    idle.run("systemctl stop workerd")
    try:
        states = _wait_for_states(fleet, {"n3": "silent", "n4": "silent"})
    finally:
        dark.heal()
        idle.run("systemctl start workerd")
    assert "switched off or cut off" in states["n3"]["sentence"]
    assert "its workerd is not heard" in states["n4"]["sentence"]
    assert (states["n1"]["state"], states["n2"]["state"]) == ("up", "up")
    _wait_for_states(fleet, dict.fromkeys(NAMES, "up"))


def test_stop_and_start_leave_and_find_everything(fleet: Person) -> None:
    fleet.say("fleet", "stop")
    off = fleet.told_by("fleet", "status")
    assert [node["state"] for node in off["nodes"]] == ["off"] * 4
    assert off["coordinator"]["state"] == "resigned"
    assert fleet.told_by("fleet", "start")["ready"] == NAMES
    _wait_for_states(fleet, dict.fromkeys(NAMES, "up"))


def test_down_must_be_agreed_to(fleet: Person) -> None:
    refused = fleet.say("fleet", "down", status=3)
    assert "say --yes" in refused.stderr
    assert fleet.told_by("fleet", "status")["nodes_up"] == 4


def test_down_leaves_nothing_but_what_was_there_before(fleet: Person, four_nodes: list[Node]) -> None:
    gone = fleet.told_by("fleet", "down", "--yes")
    assert (gone["left"], gone["missed"], len(gone["hosts"])) == ([], [], 4)
    for node in four_nodes:
        assert node.run("ls /opt /etc/tilefleet /var/lib/tilefleet 2>/dev/null; true").split() == ["/opt:"]
        assert "tilefleet" not in node.run("cat /etc/passwd /etc/group; ls /etc/systemd/system /etc/systemd/system/*.wants")
    assert not (fleet.directory / "state" / "fleets" / fleet.name).exists()
    assert fleet.told_by("info", fleet.place("c.npy"))["shape"] == [700, 600], "what is not the fleet's own stays"
    assert fleet.told_by("fleet", "down", "--yes")["removed"] == []


def _until_all_were_heard(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    missing = set(NAMES)
    for line in lines:
        found = json.loads(line)
        missing.discard(found["node"])
        yield found
        if not missing:
            return


def _wait_for_states(person: Person, wanted: dict[str, str]) -> dict[str, dict[str, str]]:
    deadline = time.monotonic() + HEARD_TIMEOUT_S
    while True:
        states = {node["name"]: node for node in person.told_by("fleet", "status")["nodes"]}
        if wanted.items() <= {name: node["state"] for name, node in states.items()}.items():
            return states
        assert time.monotonic() < deadline, f"{wanted} did not come; it is {states}"
        time.sleep(1)
