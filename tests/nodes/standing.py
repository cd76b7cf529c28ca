"""A fleet of four nodes that several modules use one after the other, as setting one up takes longer than most tests.

The rule: whoever uses it leaves it as it was, and nobody relies on that: ``fleet up`` goes before each module.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Server
from tests.nodes.disks import Options
from tests.nodes.machines import Network, Node
from tests.nodes.metadata import Handler
from tests.nodes.person import UP_TIMEOUT_S, Person

WAIT_S = 120.0
N = 3200
QUICK: dict[str, dict[str, Any]] = {
    "coordinator": {"worker_silence": "5 s", "beacon": "1 s", "job_target": "1 s"},
    "worker": {"heartbeat": "1 s"},
    "queues": {"lease": "10 s"},
}
"""So that what is silent is missed soon, and what it held comes back soon."""


class StandingFleet:
    """Four nodes, whose fleet a person looks after; its machines believe that they are EC2 instances."""

    def __init__(self, person: Person, nodes: list[Node], notices: Path) -> None:
        self.person = person
        self.nodes = nodes
        self._notices = notices

    def states(self) -> dict[str, dict[str, Any]]:
        """What ``fleet status`` says, by node."""
        return {node["name"]: node for node in self.person.told_by("fleet", "status")["nodes"]}

    def wait_for(self, **wanted: str) -> dict[str, dict[str, Any]]:
        """Until the nodes are in these states."""
        found: dict[str, dict[str, Any]] = {}

        def is_so() -> bool:
            found.update(self.states())
            return wanted.items() <= {name: node["state"] for name, node in found.items()}.items()

        wait_until(is_so, lambda: f"{wanted} did not come; it is {found}")
        return found

    def give_notice(self, node: Node) -> Path:
        """EC2 takes the node away in two minutes. Removing the file takes the notice back."""
        notice = self._notices / node.address / "latest/meta-data/spot/instance-action"
        notice.parent.mkdir(parents=True, exist_ok=True)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
        notice.write_text(json.dumps({"action": "terminate", "time": at}), encoding="utf-8")
        return notice


class Product:
    """A product of integers that runs; NumPy's is known."""

    def __init__(self, person: Person, directory: Path) -> None:
        self._person = person
        self._directory = directory
        self.id = ""
        self._alpha = 0

    @cached_property
    def expected(self) -> Any:
        """By NumPy. The operands are made at first sight, when the fleet is up."""
        operands = [self._operand(name, seed) for name, seed in (("a", "1"), ("b", "2"))]
        return np.matmul(*(matrix.astype(np.float64) for matrix in operands))  # exact: below 2⁵³

    def prepare(self) -> None:
        """Have the operands made."""
        assert self.expected.shape == (N, N)

    def begin(self) -> None:
        """Hand it in; each time times another number, as what was computed before is not computed again."""
        self.prepare()
        self._alpha += 1
        operands = [self._person.place(f"{name}.zarr") for name in ("a", "b")]
        self.id = self._person.say("multiply", *operands, "--alpha", f"{self._alpha}", "--no-wait", "--quiet").stdout.strip()

    def shown(self) -> Any:
        """What is known about it."""
        return self._person.told_by("show", self.id)

    def wait_for_jobs(self, n: int) -> None:
        """Until so many are done, and it is in the middle of its work; one that was quicker than this test is begun again."""
        shown: dict[str, Any] = {}

        def are_done() -> bool:
            shown.update(self.shown())
            return bool(shown["jobs_done"] >= n)

        for _ in range(5):
            wait_until(are_done, lambda: f"{n} jobs are not done: {shown}")
            if shown["state"] == "running":
                return
            self.begin()
        raise AssertionError(f"every product was done before it was looked at: {shown}")

    def wait(self) -> None:
        """Until it is done; it must not fail."""
        self._person.say("watch", self.id, timeout_s=WAIT_S)

    def end(self) -> Any:
        """The same, and what came out must be correct, and NumPy's."""
        self.wait()
        assert "is correct" in self._person.told_by("verify", self.id)["verdict"]
        np.testing.assert_array_equal(self._fetched(self.id, f"{self.id}.npy"), self._alpha * self.expected)
        return self.shown()

    def _operand(self, name: str, seed: str) -> Any:
        made = self._person.told_by("random", f"{N}x{N}", self._person.place(f"{name}.zarr"), "--seed", seed)
        return self._fetched(made["id"], f"{name}.npy")

    def _fetched(self, id_: str, name: str) -> Any:
        self._person.say("get", id_, str(self._directory / name))
        return np.load(self._directory / name)


def wait_until(is_so: Callable[[], bool], why_not: Callable[[], str]) -> None:
    """Looks again and again."""
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, why_not()
        time.sleep(0.5)


@pytest.fixture(scope="session")
def standing_nodes(network: Network, prepared_layer: Path) -> Iterator[list[Node]]:
    """The machines of the standing fleet."""
    nodes = [network.add_node(Options(layer=prepared_layer)) for _ in range(4)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_until_up()
    yield nodes
    for node in nodes:
        node.remove()


@pytest.fixture(scope="session")
def standing_fleet(
    tmp_path_factory: pytest.TempPathFactory, network: Network, standing_nodes: list[Node], cloud: Server
) -> Iterator[StandingFleet]:
    """See ``StandingFleet``. It is made by the first who says ``fleet up``."""
    notices, directory = tmp_path_factory.mktemp("notices"), tmp_path_factory.mktemp("standing")
    served = type("Served", (Handler,), {"root": notices})
    with ThreadingHTTPServer((network.address, 0), served) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        quick = QUICK | {"worker": {**QUICK["worker"], "metadata_url": f"http://{network.address}:{server.server_port}"}}
        person = Person(directory, network, standing_nodes, cloud, **quick)
        yield StandingFleet(person, standing_nodes, notices)
        person.say("fleet", "stop", status=None)  # ends the coordinator; the machines go too
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def fleet_of_four(standing_fleet: StandingFleet) -> StandingFleet:
    """The standing fleet, up."""
    standing_fleet.person.say("fleet", "up", timeout_s=UP_TIMEOUT_S)
    return standing_fleet


@pytest.fixture(scope="session")
def product(standing_fleet: StandingFleet, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """For whoever has the fleet up."""
    return Product(standing_fleet.person, tmp_path_factory.mktemp("products"))
