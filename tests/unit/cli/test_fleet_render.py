"""A fleet's picture as text: complete where there is room, readable at 80 columns."""

from __future__ import annotations

import json

import pytest

from coordinator.cli.fleet_render import document, nodes_text, text
from coordinator.fleet.look import QueueCounts, Report, StoreSize
from coordinator.fleet.status import CoordinatorView, FleetPicture, NodeView
from tilefleet.config import Config, FleetSection, StoreSection
from tilefleet.fleet_config import NodesSection

NOW = 1_800_000_000.0
CONFIG = Config(
    fleet=FleetSection(name="demo", kind="remote"), store=StoreSection(url="s3://tiles/demo"), nodes=NodesSection(provider="ec2")
)
UP = NodeView(
    "n1", "up", machine="i-0123456789abcdef0", address="203.0.113.10", kind="c7i.xlarge", market="on-demand", zone="us-east-1a",
    version="0.1.0+3f9c2e71", held=3, operations=("7f3a2b",), heard_ago_s=2.0, age_s=742.0, usd_per_hour=0.1785,
)  # fmt: skip
FAILED = NodeView("n2", "failed", "packages: pip ended with status 1\nNo space left on device", machine="i-0fedcba9876543210")
LEADS = CoordinatorView("leads", "laptop:4711", "0.1.0", 7, NOW - 900, 2)


def report(*nodes: NodeView, coordinator: CoordinatorView = LEADS, here_pid: int | None = 4711) -> Report:
    return Report(
        FleetPicture(nodes, coordinator, spent_usd=1.43, usd_per_hour=0.1785, has_unpriced=False),
        queues={"demo-jobs": QueueCounts(12, 8, 1)},
        store=StoreSize(1204, 3 * 2**30, is_all=True),
        here_pid=here_pid,
        here_log="/state/coordinator.log",
    )


def test_all_is_said_where_there_is_room() -> None:
    said = text(report(UP, FAILED), CONFIG, NOW, None)
    for fact in (
        "fleet demo: 1 of 2 nodes up", "laptop:4711 (this machine) leads for 15 m", "2 operations not ended",
        "$0.178 an hour now, $1.43 so far (machines only", "12 waiting, 8 in flight, 1 dead", "1204 objects, 3.0 GiB",
        "3 jobs of 7f3a2b", "2 s ago", "203.0.113.10", "i-0123456789abcdef0", "12 m", "0.1.0+3f9c2e71", "us-east-1a",
    ):  # fmt: skip
        assert fact in said


def test_a_failure_stands_below_its_node_with_the_nodes_own_lines() -> None:
    lines = nodes_text(report(UP, FAILED).picture, None).splitlines()
    assert [line.split()[0] for line in lines] == ["NODE", "n1", "n2", "packages:", "No"]


def test_it_fits_80_columns() -> None:
    said = text(report(UP, FAILED), CONFIG, NOW, 80)
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "3 jobs of 7f3a2b" in said
    assert "No space left on device" in said


@pytest.mark.parametrize(
    ("view", "pid", "says"),
    [
        (CoordinatorView("none"), None, "none; 'tilefleet fleet up' starts one"),
        (CoordinatorView("resigned"), None, "the last one was stopped"),
        (CoordinatorView("silent", "laptop:4711"), None, "laptop:4711 is not heard any more"),
        (CoordinatorView("silent", "laptop:4711"), 4711, "(process 4711) runs and does not lead; see /state/coordinator.log"),
    ],
)
def test_there_is_no_coordinator_and_what_to_do(view: CoordinatorView, pid: int | None, says: str) -> None:
    assert says in text(report(UP, coordinator=view, here_pid=pid), CONFIG, NOW, None)


def test_a_fleet_that_is_not_made_says_how_to_make_it() -> None:
    nothing = FleetPicture((), CoordinatorView("none"), 0.0, 0.0, has_unpriced=False)
    assert text(Report(nothing, is_made=False), CONFIG, NOW, 80) == (
        "fleet demo: not made yet, or taken down; 'tilefleet fleet up' makes it"
    )


def test_the_limits_that_hold_are_said() -> None:
    limited = Config(
        CONFIG.fleet, CONFIG.store, nodes=NodesSection(provider="ec2", max_nodes=8, max_cost_usd=20.0, max_hours=12.0)
    )
    said = text(report(UP), limited, NOW, None)
    assert "0 to 8 nodes" in said
    assert "$20.00 or 12 h, then the nodes are drained and terminated" in said


def test_the_document_is_json_and_complete() -> None:
    found = json.loads(json.dumps(document(report(UP, FAILED), CONFIG, NOW)))
    assert (found["nodes_up"], found["nodes"][1]["state"], found["queues"]["demo-jobs"]["dead"]) == (1, "failed", 1)
    assert found["coordinator"] == {
        "state": "leads", "leader": "laptop:4711", "version": "0.1.0", "epoch": 7, "since": NOW - 900, "n_open": 2,
        "here_pid": 4711,
    }  # fmt: skip
