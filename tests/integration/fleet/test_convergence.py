"""From nothing, or from anything, to a fleet that works: in a simulated world with a real store, and with things going wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.fleet import convergence
from coordinator.fleet.convergence import Failure, Outcome, converge, desired_of, observe, update_all
from coordinator.fleet.deciding.picture import Desired, Observed
from coordinator.fleet.observing import look
from coordinator.fleet.ports import Refused
from coordinator.fleet.records import Machine, Price
from coordinator.runtime.leadership import Leader
from tests.integration.fleet.simulated import TICK_S, SimulatedInstaller, World, node_records
from tilefleet import layout
from tilefleet.config import Config, CoordinatorSection, FleetSection, StoreSection
from tilefleet.errors import BadConfig, DoesNotFit, NotAllowed
from tilefleet.fleet_config import HostsSection, NodesSection
from tilefleet.quantities import Duration
from tilefleet.records import Control, to_json
from tilefleet.store import Stores, file_url

CONFIG = Config(
    fleet=FleetSection(name="test", kind="remote"),
    coordinator=CoordinatorSection(beacon=Duration("100 ms")),
    nodes=NodesSection(provider="ec2", count=3, boot=Duration("2 s"), hello=Duration("1 s"), replace_after=Duration("1 s")),
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "store").mkdir()
    return replace(CONFIG, store=StoreSection(url=file_url(tmp_path / "store")))


def a_world(config: Config, *, is_hosts: bool = False) -> World:
    world = World(config, Stores(config.store).open(config.store.url), is_hosts=is_hosts)
    world.fleet.poll_s = TICK_S
    return world


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    world = a_world(config)
    await world.fleet.nodes.found("test")
    leading = asyncio.create_task(world.lead())
    yield world
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


async def up(world: World, desired: Desired | None = None) -> Outcome:
    wanted = desired if desired is not None else desired_of(world.fleet)
    async with asyncio.timeout(60):
        return await converge(world.fleet, wanted, watch=world.watch, tell=world.tell)


async def test_from_nothing_to_nodes_that_are_heard_with_every_phase_timed(world: World) -> None:
    outcome = await up(world)
    assert outcome == Outcome(is_converged=True, ready=("n1", "n2", "n3"))
    for record in (await node_records(world)).values():
        assert (record.state, record.release, record.settings) == ("ready", "1.0+new", "worker-s1")
        assert list(record.phases_s) == ["launch", "boot", "reach", "packages", "hello"]
        assert record.host_keys == (f"ssh-ed25519 {record.machine}",)
        assert record.usd_per_hour == 0.5
    world.calls.clear()
    assert (await up(world)).is_converged
    assert world.calls == [], "there is nothing to do any more"


async def test_set_ups_are_bounded(world: World) -> None:
    world.fleet.config = replace(world.fleet.config, nodes=replace(world.fleet.config.nodes, count=6, at_once=2))
    assert (await up(world)).is_converged
    assert world.most_at_once == 2


async def test_a_coordinator_on_a_node_is_waited_for_by_the_workers(world: World) -> None:
    world.is_led = False
    world.installer.set_up_s = 0.5
    world.fleet.config = replace(world.fleet.config, nodes=replace(world.fleet.config.nodes, count=1, coordinator="node"))

    async def lead_when_set_up() -> None:
        await world.until(lambda: "n1" in world.running)
        world.is_led = True

    leading = asyncio.create_task(lead_when_set_up())
    outcome = await up(world)
    await leading
    assert outcome == Outcome(is_converged=True, ready=("n1", "n2"))
    assert (await node_records(world))["n1"].role == "coordinator"


async def test_a_set_up_that_fails_once_is_tried_again(world: World) -> None:
    world.faults["packages", "n2"] = 1
    outcome = await up(world)
    assert outcome == Outcome(is_converged=True, ready=("n1", "n2", "n3"))
    assert any("n2: packages: pip: No space left on device; it is tried again" in line for line in world.told)


async def test_a_node_that_keeps_failing_is_reported_and_replaced_and_holds_nobody_up(world: World) -> None:
    world.faults["packages", "n2"] = 9
    outcome = await up(world)
    assert outcome.is_converged
    assert outcome.ready == ("n1", "n3", "n4")
    (failure,) = outcome.failures
    assert (failure.node, failure.step, failure.is_replaced) == ("n2", "packages", True)
    assert "No space left" in failure.sentence
    record = (await node_records(world))["n2"]
    assert (record.state, record.attempts) == ("failed", 2)
    assert record.ended_at > 0
    assert world.machines["i-n2"].state == "gone"


async def test_a_mistake_that_every_node_meets_ends_with_their_own_words_and_few_machines(world: World) -> None:
    world.faults["packages", "*"] = 1000
    outcome = await up(world)
    assert not outcome.is_converged
    assert outcome.ready == ()
    assert {failure.sentence for failure in outcome.failures} == {"pip: No space left on device"}
    assert len(world.machines) == 5, "three, and two to see whether it was the machines"
    assert all(machine.state == "gone" for machine in world.machines.values())


async def test_a_wrong_host_key_is_not_tried_again_on_the_same_machine(world: World) -> None:
    world.faults["host key", "n1"] = 1
    outcome = await up(world)
    assert outcome.is_converged
    assert outcome.ready == ("n2", "n3", "n4")
    assert outcome.failures[0].step == "reach"
    assert "another host key" in outcome.failures[0].sentence


async def test_host_keys_that_come_late_are_waited_for_and_a_machine_without_any_is_replaced(world: World) -> None:
    world.faults["host_keys", "n1"] = 5
    world.faults["host_keys", "n2"] = 10_000
    outcome = await up(world)
    assert outcome.ready == ("n1", "n3", "n4")
    assert "host keys were not to be had within 2 s" in outcome.failures[0].sentence


async def test_systems_manager_needs_no_host_keys(world: World) -> None:
    world.faults["host_keys", "n1"] = 10_000
    world.fleet.config = replace(world.fleet.config, nodes=replace(world.fleet.config.nodes, transport="ssm"))
    assert (await up(world)).is_converged


async def test_a_worker_that_is_never_heard_is_named_with_the_end_of_its_log(world: World) -> None:
    world.faults["hear", "n3"] = 1
    outcome = await up(world)
    assert outcome.is_converged
    (failure,) = outcome.failures
    assert (failure.node, failure.step) == ("n3", "hello")
    assert "did not hear it within 1 s" in failure.sentence
    assert failure.sentence.endswith("its log ends with:\nworkerd: the store refused the credentials")


async def test_without_a_coordinator_it_is_said_that_nobody_could_hear_them(world: World) -> None:
    world.is_led = False
    world.fleet.config = replace(world.fleet.config, nodes=replace(world.fleet.config.nodes, count=1, attempts=1))
    outcome = await up(world)
    assert not outcome.is_converged
    assert "no coordinator led" in outcome.failures[0].sentence


async def test_capacity_that_is_not_there_is_said_and_what_is_up_stays(world: World) -> None:
    world.provider.capacity = 2
    outcome = await up(world)
    assert not outcome.is_converged
    assert outcome.ready == ("n1", "n2")
    assert outcome.refused == (Refused("n3", "InsufficientInstanceCapacity in us-east-1a"),)
    world.provider.capacity = 9
    again = await up(world)
    assert again == Outcome(is_converged=True, ready=("n1", "n2", "n3"))


async def test_a_launch_that_is_refused_once_is_made_a_moment_later(world: World) -> None:
    world.faults["launch", "n2"] = 1
    assert await up(world) == Outcome(is_converged=True, ready=("n1", "n2", "n3"))


async def test_machines_that_do_not_start_are_replaced(world: World) -> None:
    world.faults["start", "n1"] = 1
    outcome = await up(world)
    assert outcome.is_converged
    assert outcome.failures[0].sentence == "its machine did not start within 2 s"


async def test_a_provider_that_does_not_answer_for_a_moment_is_waited_for(world: World) -> None:
    world.faults["list", "*"] = 3
    assert (await up(world)).is_converged


async def test_when_nothing_can_be_launched_what_is_there_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await up(world)
    world.lose("n1")
    world.faults["packages", "n2"] = 1
    await world.fleet.nodes.save(replace((await node_records(world))["n2"], state="failed", attempts=1))

    async def refuse(_: object) -> None:
        raise DoesNotFit("the account may have no more instances: VcpuLimitExceeded")

    monkeypatch.setattr(world.provider, "launch", refuse)
    outcome = await up(world)
    assert outcome.refused == (Refused("n4", "the account may have no more instances: VcpuLimitExceeded"),)
    assert not outcome.is_converged
    assert outcome.ready == ("n2", "n3")


async def test_credentials_that_are_refused_end_it_with_their_sentence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: object) -> None:
        raise NotAllowed("the AWS credentials have expired; renew them")

    monkeypatch.setattr(world.provider, "launch", refuse)
    with pytest.raises(NotAllowed, match="expired"):
        await up(world)
    assert sorted(await node_records(world)) == ["n1", "n2", "n3"], "claimed, and taken up by the next"
    monkeypatch.undo()
    assert await up(world) == Outcome(is_converged=True, ready=("n1", "n2", "n3"))


@pytest.mark.parametrize("after", ["launch", "boot", "reach", "packages", "hello"])
async def test_cut_off_at_any_point_it_can_be_gone_on_with(world: World, after: str) -> None:
    task = asyncio.create_task(up(world))
    await world.until(lambda: any(after in world.phases(node, "begun") for node in ("n1", "n2", "n3")))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [each for each in asyncio.all_tasks() if each.get_name().startswith("fleet-")] == []
    assert {record.state for record in (await node_records(world)).values()} <= {"launched", "ready"}
    assert await up(world) == Outcome(is_converged=True, ready=("n1", "n2", "n3"))
    assert len(world.machines) == 3


async def test_lost_and_stopped_machines_are_made_up_for(world: World) -> None:
    await up(world)
    world.lose("n1")
    await world.provider.stop([world.of("n2")])
    outcome = await up(world)
    assert outcome == Outcome(is_converged=True, ready=("n2", "n3", "n4"))
    records = await node_records(world)
    assert records["n1"].failure == "Server.SpotInstanceTermination"
    assert records["n2"].spent_usd > 0
    assert records["n2"].stopped_at == 0


@pytest.mark.parametrize("n_refusals", [1, 9])
async def test_a_machine_that_cannot_be_switched_on_is_said_to_be_so(
    world: World, monkeypatch: pytest.MonkeyPatch, n_refusals: int
) -> None:
    await up(world)
    await world.provider.stop([world.of("n2")])
    start = world.provider.start

    async def refuse(machines: Sequence[Machine]) -> None:
        nonlocal n_refusals
        n_refusals -= 1
        if n_refusals >= 0:
            raise DoesNotFit("InsufficientInstanceCapacity in us-east-1a")
        await start(machines)

    is_hopeless = n_refusals > 3
    monkeypatch.setattr(world.provider, "start", refuse)
    outcome = await up(world)
    said = (Failure("n2", "switch on", "InsufficientInstanceCapacity in us-east-1a"),)
    assert (outcome.is_converged, outcome.failures) == ((False, said) if is_hopeless else (True, ()))
    assert outcome.ready == (("n1", "n3") if is_hopeless else ("n1", "n2", "n3"))


async def test_a_silent_worker_is_set_up_again(world: World) -> None:
    await up(world)
    del world.running["n2"]
    while "n2" in (await observe(world.fleet)).versions:  # noqa: ASYNC110 - the leader's next word
        await asyncio.sleep(TICK_S)
    outcome = await up(world)
    assert outcome == Outcome(is_converged=True, ready=("n1", "n2", "n3"))
    assert world.calls.count(("set up", "n2")) == 2


async def test_nodes_that_are_too_many_are_drained_before_they_go(world: World) -> None:
    await up(world)
    world.faults["drain", "n1"] = 1
    outcome = await up(world, replace(desired_of(world.fleet), n_workers=1))
    assert outcome.is_converged
    assert len(outcome.ready) == 1
    gone = [node for call, node in world.calls if call == "terminate"]
    assert all(world.calls.index(("drain", node)) < world.calls.index(("terminate", node)) for node in gone)
    assert len(gone) == 2


async def test_an_update_goes_node_by_node(world: World) -> None:
    await up(world)
    world.fleet.installer = SimulatedInstaller(world, "2.0+new")
    world.calls.clear()
    outcome = await update_all(world.fleet, desired_of(world.fleet), watch=world.watch, tell=world.tell)
    assert outcome == Outcome(is_converged=True, ready=("n1", "n2", "n3"))
    assert world.calls == [("update", "n1"), ("update", "n2"), ("update", "n3")]
    assert {record.release for record in (await node_records(world)).values()} == {"2.0+new"}


async def test_settings_that_changed_are_an_update_too_but_only_when_asked_for(world: World) -> None:
    await up(world)
    world.installer.digest = "s2"
    world.calls.clear()
    assert (await up(world)).is_converged
    assert world.calls == []
    assert (await up(world, desired_of(world.fleet, is_update=True))).is_converged
    assert len(world.calls) == 3


async def test_an_update_that_does_not_come_back_is_rolled_back_and_stops(world: World) -> None:
    await up(world)
    world.fleet.installer = SimulatedInstaller(world, "2.0+bad")
    world.faults["start of the new version", "n2"] = 1
    world.calls.clear()
    outcome = await update_all(world.fleet, desired_of(world.fleet), watch=world.watch, tell=world.tell)
    assert not outcome.is_converged
    assert outcome.rolled_back == ("n2",)
    assert outcome.ready == ("n1", "n2", "n3")
    assert "did not hear it" in outcome.failures[0].sentence
    assert world.calls == [("update", "n1"), ("update", "n2"), ("roll back", "n2")]
    releases = {name: record.release for name, record in (await node_records(world)).items()}
    assert releases == {"n1": "2.0+bad", "n2": "1.0+new", "n3": "1.0+new"}
    assert world.running == releases


async def test_hosts_that_fail_are_reported_and_stay_and_are_tried_again_by_the_next_up(config: Config) -> None:
    config = replace(config, hosts=HostsSection(addresses=("i-n1", "i-n2")))
    world = a_world(config, is_hosts=True)
    for number in (1, 2):
        world.put(Machine(f"i-n{number}", f"n{number}", "running", address="192.0.2.1"))
    world.faults["packages", "n2"] = 2
    leading = asyncio.create_task(world.lead())
    try:
        first = await up(world)
        assert (first.is_converged, first.ready) == (False, ("n1",))
        assert [(failure.node, failure.is_replaced) for failure in first.failures] == [("n2", False)]
        assert (await up(world)).ready == ("n1",), "the keeper leaves it alone"
        again = await up(world, replace(desired_of(world.fleet), failures_since=1.0))
        assert again == Outcome(is_converged=True, ready=("n1", "n2"))
        gone = await up(world, replace(desired_of(world.fleet), hosts=("i-n1",), n_workers=1))
        assert gone == Outcome(is_converged=True, ready=("n1",))
        assert ("undo", "n2") in world.calls
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


async def test_a_fleet_whose_budget_is_used_up_is_not_made(world: World) -> None:
    world.fleet.config = replace(world.fleet.config, nodes=replace(world.fleet.config.nodes, max_hours=1.0))
    record = await world.fleet.nodes.found("test")
    await world.fleet.nodes.save_fleet(replace(record, created_at=record.created_at - 3600))
    with pytest.raises(DoesNotFit, match=r"nodes\.max_hours is 1"):
        await up(world)
    assert world.calls == []
    assert (await up(world, replace(desired_of(world.fleet), n_workers=0))).is_converged, "taking it down is free"


async def test_a_budget_that_nobody_can_count_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(kind: str = "", market: str = "") -> Price | None:
        return None

    monkeypatch.setattr(world.fleet.provider, "price", unknown)
    world.fleet.config = replace(world.fleet.config, nodes=replace(world.fleet.config.nodes, max_cost_usd=5.0))
    with pytest.raises(BadConfig, match=r"nodes\.max_cost_usd cannot be kept, as it is not known here what c7i\.xlarge, "):
        await up(world)
    assert world.calls == []


async def test_what_ends_while_it_is_looked_at_is_looked_at_again(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is no longer named is undone; a look that began before sees it no more, but knows that it was busy."""
    world = a_world(replace(config, hosts=HostsSection(addresses=("i-n1", "i-n2"))), is_hosts=True)
    for number in (1, 2):
        world.put(Machine(f"i-n{number}", f"n{number}", "running", address="192.0.2.1"))
    leading = asyncio.create_task(world.lead())

    async def slow(provider: Any, nodes: Any, ears: Any, busy: frozenset[str] = frozenset()) -> Observed:
        if busy:
            await asyncio.sleep(1)
        return await look(provider, nodes, ears, busy)

    try:
        assert (await up(world)).is_converged
        monkeypatch.setattr(convergence, "look", slow)
        gone = await up(world, replace(desired_of(world.fleet), hosts=("i-n1",), n_workers=1))
        assert gone == Outcome(is_converged=True, ready=("n1",))
    finally:
        leading.cancel()


async def test_what_is_told_at_the_end_is_what_was_judged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coordinator goes, and another leads a moment after everything was found well: it has heard nobody yet."""
    await up(world)
    world.is_led = False
    await asyncio.sleep(2 * TICK_S)
    led_by_nobody = Control(1, time.time(), "test", "", "1.0", (), 0, (), 0.0)
    await world.store.put(layout.control(1), to_json(led_by_nobody))
    looks = 0

    async def seen(*args: Any) -> Observed:
        nonlocal looks
        observed = await look(*args)
        if (looks := looks + 1) == 1:
            await world.store.put_new(layout.leader(2), to_json(Leader.this_process()))
            await world.store.put(layout.control(2), to_json(replace(led_by_nobody, epoch=2, at=time.time(), leader="here:2")))
        return observed

    monkeypatch.setattr(convergence, "look", seen)
    assert (await up(world)).is_converged


async def test_a_look_changes_nothing(world: World) -> None:
    await up(world)
    world.calls.clear()
    observed = await observe(world.fleet)
    assert sorted(observed.heard) == ["n1", "n2", "n3"]
    assert observed.led_since is not None
    assert observed.next_node == 4
    assert world.calls == []
