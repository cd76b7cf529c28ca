"""What ``fleet status`` says of each state that machine, record and leader can be in together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coordinator.fleet.records import FleetRecord, Machine, MachineState, NodeRecord
from coordinator.fleet.status import FleetPicture, Lead, NodeView, picture
from tilefleet.records import Control, WorkerView

NOW = 1_800_000_000.0
RELEASE = "0.1.0+3f9c2e71"


def machine(node: str = "n1", state: MachineState = "running", **more: Any) -> Machine:
    return msgspec.structs.replace(
        Machine(id=f"i-{node}", node=node, state=state, address="10.0.0.4", kind="c7i.xlarge", launched_at=NOW - 600), **more
    )


def record(name: str = "n1", **more: Any) -> NodeRecord:
    ready = NodeRecord(
        name, f"i-{name}", state="ready", release=RELEASE, launched_at=NOW - 600, ready_at=NOW - 500, usd_per_hour=0.18
    )
    return msgspec.structs.replace(ready, **more)


def worker(name: str = "n1", *, ago_s: float = 2.0, version: str = RELEASE, held: int = 3) -> WorkerView:
    # the leader's clock is an hour ahead of ours: nothing may depend on it
    return WorkerView(name, "i1", version, 4, 2**33, 1e11, 1e9, NOW + 3600 - ago_s, held, ("7f3a main/1", "7f3a main/2"))


def lead(
    *workers: WorkerView, is_alive: bool = True, leader: str = "laptop:4711", departed: dict[str, str] | None = None
) -> Lead:
    control = Control(7, NOW + 3600, "demo", leader, "0.1.0", n_open=2, workers=workers, departed=departed or {})
    return Lead(control, is_alive, NOW - 900)


def only(found: FleetPicture) -> NodeView:
    assert len(found.nodes) == 1
    return found.nodes[0]


def test_a_worker_that_is_heard_is_up() -> None:
    view = only(picture([machine()], [record()], lead(worker()), NOW))
    assert (view.state, view.sentence, view.held, view.operations) == ("up", "", 3, ("7f3a",))
    assert (view.heard_ago_s, view.age_s, view.version) == (2.0, 600.0, RELEASE)


@pytest.mark.parametrize(
    ("given", "state", "says"),
    [
        ((machine(state="starting"), record(state="launched"), lead()), "starting", ""),
        ((None, record(state="launched", launched_at=NOW - 5), lead()), "starting", "not listed yet"),
        ((machine(), record(state="launched"), lead()), "setting up", ""),
        ((machine(), None, lead()), "not set up", "fleet up"),
        ((machine(), record(state="launched", attempts=1, step="packages", failure="disk full"), lead()), "setting up",
         "try 2; before: packages: disk full"),
        ((machine(), record(state="failed", step="packages", failure="disk full"), lead()), "failed", "packages: disk full"),
        ((machine(), record(), lead()), "silent", "does not hear it"),
        ((machine(), record(), lead(departed={"n1": "EC2 takes it away"})), "leaving", "EC2 takes it away"),
        ((machine(), record(), None), "unknown", "no coordinator"),
        ((machine(), record(), lead(worker(), is_alive=False)), "unknown", "no coordinator"),
        ((machine(), record(state="leaving"), lead(worker())), "leaving", "takes nothing new"),
        ((machine(state="stopped", reason="User initiated"), record(), lead()), "off", "User initiated"),
        ((machine(state="stopping"), record(), lead()), "stopping", ""),
        ((machine(), record(stopped_at=NOW - 60), None), "off", "stopped its daemon"),
        ((machine(state="gone", reason="spot interruption"), record(), lead()), "lost", "gone: spot interruption"),
        ((None, record(), lead()), "lost", "gone; the coordinator replaces it"),
        ((machine(), record(), lead(worker(version="0.0.9"))), "up", "it runs 0.0.9, and was given 0.1.0+3f9c2e71"),
        ((machine(role="coordinator"), record(role="coordinator"), lead()), "up", ""),
    ],
)  # fmt: skip
def test_each_state_is_told(given: tuple[Machine | None, NodeRecord | None, Lead | None], state: str, says: str) -> None:
    found, written, heard = given
    view = only(picture([found] if found else [], [written] if written else [], heard, NOW))
    assert view.state == state
    assert says in view.sentence
    assert bool(says) == bool(view.sentence)


@pytest.mark.parametrize(("answers", "says"), [(True, "its workerd is not heard"), (False, "switched off or cut off")])
def test_silence_is_told_apart_where_the_machine_was_asked(answers: bool, says: str) -> None:
    view = only(picture([machine()], [record()], lead(), NOW, answers={"n1": answers}))
    assert view.state == "silent"
    assert says in view.sentence


def test_what_ended_is_history_but_was_paid_for() -> None:
    ended = record("n1", ended_at=NOW - 300, usd_per_hour=12.0)
    found = picture(
        [machine("n1", "gone"), machine("n2")],
        [ended, record("n2")],
        lead(worker("n2")),
        NOW,
        fleet=FleetRecord("demo", "u", NOW, spent_usd=5.0),
    )
    assert [view.name for view in found.nodes] == ["n2"]
    assert found.spent_usd == pytest.approx(5.0 + 300 / 3600 * 12.0 + 600 / 3600 * 0.18)
    assert found.usd_per_hour == pytest.approx(0.18)


def test_a_machine_that_is_off_is_not_paid_for_now() -> None:
    assert picture([machine(state="stopped")], [record()], None, NOW).usd_per_hour == 0


def test_nodes_stand_in_the_order_of_their_numbers() -> None:
    names = ["n10", "n2", "n1"]
    found = picture([machine(name) for name in names], [record(name) for name in names], lead(), NOW)
    assert [view.name for view in found.nodes] == ["n1", "n2", "n10"]


def test_a_leader_that_is_silent_and_one_that_resigned_are_told_apart() -> None:
    states = [lead(), lead(is_alive=False), lead(is_alive=False, leader=""), None]
    assert [picture([], [], one, NOW).coordinator.state for one in states] == ["leads", "silent", "resigned", "none"]


def test_only_workers_count_as_nodes_that_are_up() -> None:
    machines = [machine("n1"), machine("n2", role="coordinator")]
    assert picture(machines, [record("n1"), record("n2", role="coordinator")], lead(worker("n1")), NOW).n_up == 1
