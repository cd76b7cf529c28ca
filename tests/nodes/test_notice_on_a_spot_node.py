"""A spot instance is taken away: its worker leaves within the notice, and what it had to do is done elsewhere."""

from __future__ import annotations

import json
import time

import pytest

from tests.nodes.machines import Node
from tests.nodes.standing import Product, StandingFleet, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NOTICE_S = 120.0
CORES = 0.25


def test_on_a_notice_a_node_drains_and_its_work_is_done_elsewhere(fleet_of_four: StandingFleet, product: Product) -> None:
    taken, others = fleet_of_four.nodes[1], [fleet_of_four.nodes[number] for number in (0, 2, 3)]
    product.prepare()
    for node in fleet_of_four.nodes:
        node.set_cpu_share(CORES)
    product.begin()
    product.wait_for_jobs(1)
    began = time.time()
    notice = fleet_of_four.give_notice(taken)
    try:
        wait_until(lambda: _state(taken) == "inactive", lambda: f"its workerd is {_state(taken)}")
        assert time.time() - began < NOTICE_S
        for node in others:
            node.set_cpu_share(None)
        done = product.end()
    finally:
        notice.unlink()
        for node in fleet_of_four.nodes:
            node.set_cpu_share(None)
        taken.run("systemctl start workerd")
    assert done["state"] == "done"
    assert "n2" in done["workers"], "it took part"
    said = [json.loads(line.partition("]: ")[2]) for line in taken.journal("workerd").splitlines() if '"spot_notice"' in line]
    assert [(line["kind"], line["action"]) for line in said] == [("interruption", "terminate")]
    fleet_of_four.wait_for(**dict.fromkeys(fleet_of_four.states(), "up"))


def _state(node: Node) -> str:
    return node.run("systemctl is-active workerd || true").strip()
