"""From whatever is there to what should be there: rules by example, and for any state by drawing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from coordinator.fleet.deciding.picture import Desired, Node, Observed, nodes_of
from coordinator.fleet.deciding.reconcile import (
    Accept,
    Drain,
    Forget,
    GiveUp,
    Launch,
    Restart,
    SetUp,
    Start,
    Terminate,
    Update,
    is_converged,
    reconcile,
    waits_for,
)
from coordinator.fleet.records import Machine, NodeRecord
from tests.unit.fleet.small_world import SmallWorld

NOW = 1_800_000_000.0
WANTED = Desired(n_workers=2, release="r2", settings={"worker": "s2"})


def machine(number: int, state: str = "running", **given: Any) -> Machine:
    usual: dict[str, Any] = {"state": state, "launched_at": NOW - 1000}
    return Machine(f"i-{number}", f"n{number}", **(usual | given))


def record(number: int, state: str = "ready", **given: Any) -> NodeRecord:
    usual: dict[str, Any] = {"launched_at": NOW - 1000, "ready_at": NOW - 900, "release": "r2", "settings": "s2"}
    return NodeRecord(f"n{number}", **({"machine": f"i-{number}", "state": state} | usual | given))


def fleet(*nodes: tuple[Machine | None, NodeRecord | None], silent: tuple[str, ...] = (), **given: Any) -> Observed:
    machines = tuple(machine for machine, _ in nodes if machine is not None)
    records = tuple(record for _, record in nodes if record is not None)
    names = {each.node for each in machines if each.state == "running"} - set(silent)
    usual: dict[str, Any] = {"led_since": NOW - 2000, "heard": dict.fromkeys(names, NOW - 3), "next_node": 1 + len(nodes)}
    return Observed(machines, records, **(usual | given))


def good(number: int) -> tuple[Machine, NodeRecord]:
    return machine(number), record(number)


def test_nothing_is_done_about_a_fleet_that_is_well() -> None:
    observed = fleet(good(1), good(2))
    assert reconcile(WANTED, observed, NOW) == []
    assert is_converged(WANTED, observed, NOW)


def test_a_fleet_begins_with_launches_under_the_first_names() -> None:
    assert reconcile(replace(WANTED, has_coordinator=True), Observed(), NOW) == [
        Launch("n1", "coordinator"), Launch("n2"), Launch("n3"),
    ]  # fmt: skip


def test_a_lost_machine_is_forgotten_and_replaced_under_a_new_name() -> None:
    observed = fleet(good(1), (machine(2, "gone", reason="Server.SpotInstanceTermination"), record(2)))
    assert reconcile(WANTED, observed, NOW) == [Forget("n2", "Server.SpotInstanceTermination"), Launch("n3")]


def test_a_claimed_name_is_launched_and_one_too_many_is_forgotten() -> None:
    claimed = (None, NodeRecord("n2", ""))
    assert reconcile(WANTED, fleet(good(1), claimed), NOW) == [Launch("n2")]
    (action,) = reconcile(replace(WANTED, n_workers=1), fleet(good(1), claimed), NOW)
    assert isinstance(action, Forget)


def test_a_machine_just_launched_that_the_provider_does_not_show_yet_is_waited_for() -> None:
    fresh = (None, record(2, "launched", launched_at=NOW - 5))
    observed = fleet(good(1), fresh)
    assert reconcile(WANTED, observed, NOW) == []
    assert waits_for(WANTED, observed, NOW) == ["n2"]
    assert Forget("n2", "its machine is not there any more") in reconcile(WANTED, observed, NOW + 200)


def test_a_machine_without_a_record_is_set_up() -> None:
    assert reconcile(WANTED, fleet(good(1), (machine(2), None)), NOW) == [SetUp("n2")]


def test_a_failed_set_up_is_tried_again_then_given_up_and_replaced() -> None:
    silent: dict[str, Any] = {"silent": ("n2",)}
    assert reconcile(WANTED, fleet(good(1), (machine(2), record(2, "failed", attempts=1)), **silent), NOW) == [SetUp("n2")]
    given_up = (machine(2), record(2, "failed", attempts=2))
    assert reconcile(WANTED, fleet(good(1), given_up, **silent), NOW) == [GiveUp("n2"), Launch("n3")]
    going = (machine(2, "stopping"), record(2, "failed", attempts=2))
    assert reconcile(WANTED, fleet(good(1), going, good(3)), NOW) == []


def test_machines_that_come_to_nothing_are_not_launched_without_end() -> None:
    failed = [(None, record(n, "failed", attempts=2, ended_at=NOW - 60)) for n in range(1, 5)]
    assert reconcile(WANTED, fleet(*failed), NOW) == []
    assert len(reconcile(WANTED, fleet(*failed[:3]), NOW)) == 1
    assert len(reconcile(replace(WANTED, failures_since=NOW - 10), fleet(*failed), NOW)) == 2, "a person said up again"
    assert len(reconcile(WANTED, fleet(*failed), NOW + 3600)) == 2


def test_a_silent_worker_is_restarted_only_while_somebody_listens() -> None:
    observed = fleet(good(1), good(2), silent=("n2",))
    assert reconcile(WANTED, observed, NOW) == [Restart("n2")]
    assert reconcile(WANTED, replace(observed, led_since=None), NOW) == []
    assert reconcile(WANTED, replace(observed, led_since=NOW - 60), NOW) == [], "the leader is new and may not know it yet"
    assert reconcile(WANTED, replace(observed, heard={"n1": NOW, "n2": NOW - 100}), NOW) == []


def test_a_node_whose_worker_left_as_it_is_taken_away_is_replaced_at_once() -> None:
    observed = fleet(good(1), good(2), silent=("n2",), heard={"n1": NOW, "n2": NOW - 40}, departed={"n2": "EC2 takes it away"})
    assert reconcile(WANTED, observed, NOW) == [Terminate("n2"), Launch("n3")]
    assert not is_converged(WANTED, observed, NOW)
    going = fleet(good(1), (machine(2), record(2, "leaving")), good(3), silent=("n2",), departed={"n2": "EC2 takes it away"})
    assert reconcile(WANTED, going, NOW) == [Terminate("n2")]
    hosts = replace(WANTED, hosts=("i-1", "i-2"))
    assert reconcile(hosts, observed, NOW) == [], "nobody gives us another of those"


def test_a_failed_node_that_is_heard_again_counts_again() -> None:
    observed = fleet(good(1), (machine(2), record(2, "failed", attempts=2)), versions={"n2": "r2"})
    assert reconcile(WANTED, observed, NOW) == [Accept("n2")]
    assert reconcile(WANTED, replace(observed, versions={"n2": "r1"}), NOW) == [GiveUp("n2"), Launch("n3")]


def test_a_stopped_machine_is_started_and_one_that_does_not_start_is_given_up() -> None:
    assert reconcile(WANTED, fleet(good(1), (machine(2, "stopped"), record(2))), NOW) == [Start("n2")]
    late = (machine(2, "starting", launched_at=NOW - 301), record(2, "launched"))
    assert reconcile(WANTED, fleet(good(1), late), NOW) == [
        GiveUp("n2", "its machine did not start within 300 s"), Launch("n3"),
    ]  # fmt: skip


def test_who_goes_is_who_is_missed_least() -> None:
    one = replace(WANTED, n_workers=1)
    observed = fleet(good(1), good(2), held={"n1": 0, "n2": 3})
    assert reconcile(one, observed, NOW) == [Drain("n1")]
    dear = (machine(2), record(2, usd_per_hour=2.0))
    assert reconcile(one, fleet(good(1), dear), NOW) == [Drain("n2")]
    failing = (machine(2), record(2, "failed", attempts=1))
    assert reconcile(one, fleet(good(1), failing, silent=("n2",)), NOW) == [Terminate("n2")]
    assert reconcile(one, fleet(good(1), (machine(2, "stopped"), record(2))), NOW) == [Terminate("n2")]


def test_a_node_leaves_in_two_steps_and_the_coordinator_is_the_last() -> None:
    none = replace(WANTED, n_workers=0)
    coordinator = (machine(2, role="coordinator"), record(2, role="coordinator"))
    assert reconcile(none, fleet(good(1), coordinator), NOW) == [Drain("n1")]
    leaving = (machine(1), record(1, "leaving"))
    assert reconcile(none, fleet(leaving, coordinator), NOW) == [Drain("n1")], "cut off while it drained"
    assert reconcile(none, fleet(leaving, coordinator, silent=("n1",)), NOW) == [Terminate("n1")]
    undrained = (machine(1), record(1, "leaving", attempts=1))
    assert reconcile(none, fleet(undrained, coordinator), NOW) == [Terminate("n1")]
    gone = (machine(1, "gone"), record(1, "leaving", ended_at=NOW))
    assert reconcile(none, fleet(gone, coordinator), NOW) == [Terminate("n2")]


def test_updates_come_when_asked_for_one_at_a_time_the_coordinator_last() -> None:
    old = [(machine(n), record(n, release="r1")) for n in (2, 3)]
    coordinator = (machine(1, role="coordinator"), record(1, role="coordinator", release="r1"))
    observed = fleet(coordinator, *old)
    asked = replace(WANTED, has_coordinator=True, is_update=True)
    assert reconcile(replace(asked, is_update=False), observed, NOW) == []
    assert reconcile(asked, observed, NOW) == [Update("n2")]
    assert reconcile(asked, replace(observed, busy=frozenset({"n2"})), NOW) == []
    assert reconcile(asked, fleet(coordinator, good(2), good(3)), NOW) == [Update("n1")]
    told = (machine(2), record(2, settings="s1"))
    assert reconcile(asked, fleet((machine(1, role="coordinator"), record(1, role="coordinator")), told, good(3)), NOW) == [
        Update("n2")
    ]


def test_hosts_are_set_up_and_never_launched_and_those_no_longer_named_are_undone() -> None:
    hosts = replace(WANTED, hosts=("i-1", "i-2"))
    assert reconcile(hosts, fleet((machine(1), None), (machine(2), None)), NOW) == [SetUp("n1"), SetUp("n2")]
    broken = (machine(2), record(2, "failed", attempts=2))
    observed = fleet(good(1), broken, silent=("n2",))
    assert reconcile(hosts, observed, NOW) == []
    assert not is_converged(hosts, observed, NOW)
    assert reconcile(hosts, fleet(good(1), good(2), good(3)), NOW) == [Drain("n3")]
    stopped = (machine(2), record(2, stopped_at=NOW - 60))
    assert reconcile(hosts, fleet(good(1), stopped, silent=("n2",)), NOW) == [Restart("n2")]


def test_the_coordinator_of_hosts_is_the_machine_that_is_named() -> None:
    hosts = replace(WANTED, hosts=("i-1",), n_workers=1, has_coordinator=True, coordinator_host="i-2")
    there = (machine(2, role="coordinator"), None)
    assert reconcile(hosts, fleet(good(1), there), NOW) == [SetUp("n2")]
    other = (machine(3, role="coordinator"), record(3, role="coordinator"))
    assert reconcile(hosts, fleet(good(1), there, other), NOW) == [SetUp("n2"), Terminate("n3")]
    assert reconcile(replace(hosts, has_coordinator=False), fleet(good(1), other), NOW) == [Terminate("n3")]


def test_a_second_machine_under_one_name_goes() -> None:
    twin = Machine("i-99", "n2", "running", launched_at=NOW)
    observed = fleet(good(1), good(2))
    assert reconcile(WANTED, replace(observed, machines=(*observed.machines, twin)), NOW) == [Terminate("n2", "i-99")]


def test_the_cap_counts_every_machine() -> None:
    leaving = (machine(1), record(1, "leaving"))
    observed = fleet(leaving, silent=("n1",))
    assert reconcile(replace(WANTED, cap=2), observed, NOW) == [Terminate("n1"), Launch("n2")]


# ---- from any state

names = st.integers(1, 6)


@st.composite
def any_fleets(draw: st.DrawFn) -> Observed:
    numbers = draw(st.lists(st.integers(1, 7), unique=True, max_size=6))
    nodes: list[tuple[Machine | None, NodeRecord | None]] = []
    heard = {}
    for number in numbers:
        role = draw(st.sampled_from(["worker", "worker", "coordinator"]))
        launched_at = NOW - draw(st.sampled_from([10, 200, 1000]))
        shown = draw(st.sampled_from(["starting", "running", "running", "stopping", "stopped", "gone", None]))
        state = draw(st.sampled_from(["launched", "ready", "ready", "failed", "leaving", None]))
        ended_at = NOW - 50 if shown in {None, "gone"} and draw(st.booleans()) else 0.0
        its = None if shown is None else machine(number, shown, role=role, launched_at=launched_at)
        written = None if state is None else record(
            number, state, role=role, launched_at=launched_at, attempts=draw(st.integers(0, 2)), ended_at=ended_at,
            release=draw(st.sampled_from(["r1", "r2"])), machine=draw(st.sampled_from([f"i-{number}", f"i-{number}", ""])),
        )  # fmt: skip
        nodes.append((its, written))
        if draw(st.booleans()):
            heard[f"n{number}"] = NOW - draw(st.sampled_from([3, 400]))
    led_since = draw(st.sampled_from([NOW - 2000, NOW - 20, None]))
    return fleet(*nodes, heard=heard, led_since=led_since, next_node=draw(st.integers(1, 9)))


any_desires = st.builds(
    Desired, n_workers=st.integers(0, 4), release=st.just("r2"), settings=st.just({"worker": "s2", "coordinator": "s2"}),
    has_coordinator=st.booleans(), is_update=st.booleans(), failures_since=st.just(NOW),
)  # fmt: skip


@given(any_fleets(), any_desires)
@settings(max_examples=400, deadline=None)
def test_any_fleet_becomes_what_is_desired_and_then_nothing_more_is_done(observed: Observed, desired: Desired) -> None:
    world = SmallWorld(replace(observed, led_since=NOW - 2000), NOW)
    for _ in range(60):
        world.act(desired)
        world.pass_minute()
        if is_converged(desired, world.observe(), world.now):
            break
    assert is_converged(desired, world.observe(), world.now), world.log
    assert reconcile(desired, world.observe(), world.now) == []
    live = [node for node in nodes_of(world.observe()) if node.is_live]
    assert sum(node.role == "worker" for node in live) == desired.n_workers
    assert sum(node.role == "coordinator" for node in live) == desired.has_coordinator
    assert all(node.record is not None and node.record.release == "r2" for node in live) or not desired.is_update


@given(any_fleets(), any_desires, st.integers(0, 2**32), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_trouble_never_leads_above_the_cap_or_to_a_name_twice_and_ends_when_trouble_ends(
    observed: Observed, desired: Desired, seed: int, spare: int
) -> None:
    cap = max(len(observed.machines) + len(observed.records), desired.n_workers + desired.has_coordinator + spare)
    desired = replace(desired, cap=cap)
    world = SmallWorld(observed, NOW, seed, trouble=0.3, cap=cap)
    for _ in range(40):
        world.act(desired)
        world.pass_minute()
    world.trouble, world.led_since = 0.0, world.now - 2000
    desired = replace(desired, failures_since=world.now)
    for _ in range(60):
        world.act(desired)
        world.pass_minute()
        if is_converged(desired, world.observe(), world.now):
            return
    raise AssertionError(world.log[-20:])


@given(any_fleets(), any_desires)
@settings(max_examples=400, deadline=None)
def test_a_machine_is_ended_only_for_a_reason(observed: Observed, desired: Desired) -> None:
    nodes = {node.name: node for node in nodes_of(observed)}
    actions = reconcile(desired, observed, NOW)
    assert len({(action.node, getattr(action, "machine", "")) for action in actions}) == len(actions), "one at a time"
    ending = [action.node for action in actions if isinstance(action, Drain | Terminate | GiveUp)]
    for role, wanted in (("worker", desired.n_workers), ("coordinator", int(desired.has_coordinator))):
        kept = [
            node for node in nodes.values()
            if node.role == role and node.name not in ending and node.is_live and not node.is_leaving
        ]  # fmt: skip
        healthy = [node for node in nodes.values() if node.name in ending and node.role == role and _is_healthy(node)]
        assert not healthy or len(kept) >= wanted


def _is_healthy(node: Node) -> bool:
    return node.state == "running" and node.record is not None and node.record.state == "ready" and not node.record.ended_at


@given(any_fleets(), any_desires, st.sets(st.sampled_from([f"n{n}" for n in range(1, 8)])))
@settings(max_examples=300, deadline=None)
def test_what_is_being_worked_on_is_left_alone(observed: Observed, desired: Desired, busy: set[str]) -> None:
    for action in reconcile(desired, replace(observed, busy=frozenset(busy)), NOW):
        assert action.node not in busy
