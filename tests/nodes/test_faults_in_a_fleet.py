"""Machines fail in four ways in the middle of a product: it is exact, and ``fleet status`` says what is so, all the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nodes.machines import Node
from tests.nodes.standing import Product, StandingFleet, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CORES = 0.2  # of each node, so that the product lasts and costs this machine little
DROP_IN = "/run/systemd/system/workerd.service.d/watchdog.conf"
UP = dict.fromkeys(("n1", "n2", "n3", "n4"), "up")


@pytest.fixture
def nodes(fleet_of_four: StandingFleet) -> Iterator[list[Node]]:
    """Its nodes; healed and switched on at the end."""
    yield fleet_of_four.nodes
    for node in fleet_of_four.nodes:
        node.set_cpu_share(None)
        node.heal()
        if not node.is_up():
            node.boot()


@pytest.fixture
def impatient(fleet_of_four: StandingFleet) -> Iterator[Node]:
    """A node whose watchdog waits 5 s instead of 30."""
    node = fleet_of_four.nodes[3]
    node.run(f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf '[Service]\\nWatchdogSec=5\\n' >{DROP_IN}")
    node.run("systemctl daemon-reload; systemctl restart workerd")
    fleet_of_four.wait_for(**UP)
    yield node
    node.run(f"rm {DROP_IN}; systemctl daemon-reload; systemctl restart workerd")
    fleet_of_four.wait_for(**UP)


def test_a_product_is_exact_whatever_becomes_of_its_nodes(
    fleet_of_four: StandingFleet, product: Product, impatient: Node, nodes: list[Node]
) -> None:
    dark, cut_off, killed, _ = nodes
    product.prepare()
    for node in nodes:
        node.set_cpu_share(CORES)
    product.begin()
    product.wait_for_jobs(1)
    dark.power_off_hard()
    cut_off.cut()
    killed.run("systemctl kill --signal=KILL workerd")
    impatient.run("systemctl kill --signal=STOP workerd")

    seen = fleet_of_four.wait_for(n1="silent", n2="silent", n4="silent")
    assert "switched off or cut off" in seen["n1"]["sentence"]
    assert "switched off or cut off" in seen["n2"]["sentence"]
    assert "its workerd is not heard" in seen["n4"]["sentence"]

    for node in nodes:
        node.set_cpu_share(None)
    cut_off.heal()
    seen = fleet_of_four.wait_for(n2="up", n3="up", n4="up")
    assert seen["n1"]["state"] == "silent", "it is off"

    done = product.end()
    assert done["state"] == "done"
    assert done["totals"]["mismatches"] == 0
    assert "status=9/KILL" in killed.journal("workerd")
    wait_until(lambda: "Watchdog timeout" in impatient.journal("workerd"), lambda: "systemd's watchdog ended it")

    dark.boot()
    fleet_of_four.wait_for(**UP)
