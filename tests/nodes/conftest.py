"""Fixtures for tests on real nodes: a network, four bare nodes, special ones, and a cloud that the nodes reach.

The rule: where nodes cannot run, these tests are skipped with the reason; in CI they fail instead, or nobody would notice.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, _running, _wait
from tests.nodes.disks import Options
from tests.nodes.machines import Network, Node
from tests.nodes.prepared import prepare
from tests.nodes.standing import fleet_of_four, product, standing_fleet, standing_nodes

TIMEOUT_S = 600
NewNode = Callable[..., Node]
__all__ = ["fleet_of_four", "product", "standing_fleet", "standing_nodes"]

_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "nsenter": "util-linux",
}  # and the Debian packages that they are in


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests in this directory get more time, as the first may have to build the nodes' root file system."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session", autouse=True)
def nodes_run_here() -> None:
    """Skip when this machine cannot run nodes; fail in CI."""
    if reason := _why_not():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"nodes do not run here: {reason}")


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """The network of this test run's nodes."""
    network = Network()
    try:
        yield network
    finally:
        network.close()


@pytest.fixture(scope="module")
def four_nodes(network: Network) -> Iterator[list[Node]]:
    """Four bare nodes that are up; each module gets new ones."""
    yield from _several(network, 4, Options())


@pytest.fixture(scope="session")
def prepared_layer(network: Network) -> Path:
    """A layer for disks (``Options.layer``): Python packages and user as the set-up of a node leaves them, but no daemon yet.

    For tests about what comes later. It is made by the set-up itself, and saves each further node the installation.
    """
    node = network.add_node()
    node.boot()
    prepare(node)
    return node.as_layer()


@pytest.fixture(scope="module")
def four_prepared_nodes(network: Network, prepared_layer: Path) -> Iterator[list[Node]]:
    """Four nodes that are up and have all packages; each module gets new ones."""
    yield from _several(network, 4, Options(layer=prepared_layer))


@pytest.fixture
def new_node(network: Network) -> Iterator[NewNode]:
    """Boots a node of a test's own; takes the fields of ``Options`` by name."""
    nodes = []

    def boot(**options: Any) -> Node:
        nodes.append(network.add_node(Options(**options)))
        nodes[-1].boot()
        return nodes[-1]

    yield boot
    for node in nodes:
        node.remove()


@pytest.fixture(scope="session")
def cloud(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The stand-in for AWS (as ``moto_server``), at the host's address in the nodes' network."""
    directory = tmp_path_factory.mktemp("cloud")
    ready = directory / "ready"
    command = [sys.executable, "-m", "tests.nodes.cloud", network.address, "--ready-file", str(ready)]
    with _running(command, directory) as process:
        _wait(process, directory, ready.exists)
        yield Server(ready.read_text(encoding="utf-8"))


def _several(network: Network, count: int, options: Options) -> Iterator[list[Node]]:
    nodes = [network.add_node(options) for _ in range(count)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_until_up()
    yield nodes
    for node in nodes:
        node.remove()


def _why_not() -> str | None:
    if sys.platform != "linux":
        return "they are containers on Linux; run these tests on a Linux machine or leave them to CI"
    if os.geteuid() != 0:
        return "they need root: sudo make test-nodes"
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    return f"packages are missing: apt-get install {' '.join(missing)}" if missing else None
