"""The real scheduler in a simulated world: whatever happens, every job is done once, and every operation ends."""

from __future__ import annotations

from tests.simulation.faults import CALM
from tests.simulation.scenario import SETTINGS, ends_as, mixed, product
from tests.simulation.world import World


def test_calm_world_does_each_job_exactly_once() -> None:
    world = World(0, CALM, n_workers=4, settings=SETTINGS)
    for record in mixed(7):
        world.submit(record)
    world.run(world.all_ended, 3600)
    assert set(ends_as(world).values()) == {"done"}
    assert set(world.ledger.computed.values()) == {1}


def test_two_operations_share_the_fleet_and_the_small_one_is_not_kept_waiting() -> None:
    world = World(1, CALM, n_workers=2, settings=SETTINGS)
    world.submit(product("000000000000", 8192, tile=256))
    world.run(lambda: len(world.ledger.computed) > 20, 3600)
    world.submit(product("000000000001", 512, tile=256))
    world.run(lambda: ends_as(world)["000000000001"] == "done", 3600)
    assert ends_as(world)["000000000000"] == "running"


def test_a_poison_job_fails_its_operation_by_name_and_the_others_go_on() -> None:
    habits = CALM._replace(fail=1.0)
    world = World(2, habits, n_workers=2, settings=SETTINGS)
    world.submit(product("000000000000", 512))
    world.run(world.all_ended, 3600)
    status = world.believed("000000000000")
    assert status is not None
    assert status.error is not None
    assert "multiply[" in status.error.sentence
    assert "after 12 attempts" in status.error.sentence
    world.become_calm()
    world.submit(product("000000000001", 512))
    world.run(world.all_ended, 3600)
    assert ends_as(world)["000000000001"] == "done"


def test_without_workers_an_operation_waits_says_so_and_fails_in_the_end() -> None:
    world = World(3, CALM, n_workers=0, settings=SETTINGS)
    world.submit(product("000000000000"))
    world.run(lambda: world.now > 1010, 60)
    status = world.believed("000000000000")
    assert status is not None
    assert status.state == "queued"
    assert "worker" in status.note
    world.run(world.all_ended, 1200)
    status = world.believed("000000000000")
    assert status is not None
    assert status.error is not None
    assert "no worker was heard for 600 s" in status.error.sentence


def test_a_drained_worker_costs_nothing() -> None:
    world = World(4, CALM, n_workers=3, settings=SETTINGS)
    world.submit(product("000000000000", 2048))
    world.at(5.0, lambda: world.drain(world.workers[0]))
    world.run(world.all_ended, 3600)
    assert ends_as(world) == {"000000000000": "done"}


def test_cancelled_operation_ends_at_once_and_is_cleaned_up() -> None:
    world = World(5, CALM, n_workers=2, settings=SETTINGS)
    world.submit(product("000000000000", 8192))
    world.run(lambda: len(world.ledger.computed) > 5, 3600)
    world.cancel("000000000000")
    world.run(world.all_ended, 60)
    assert ends_as(world) == {"000000000000": "cancelled"}


def test_too_small_workers_refuse_with_the_memory_that_would_do() -> None:
    world = World(6, CALM, n_workers=0, settings=SETTINGS)
    world.submit(product("000000000000", 8192, tile=8192))
    world.start_worker("w0")
    world.run(world.all_ended, 600)
    status = world.believed("000000000000")
    assert status is not None
    assert status.error is not None
    assert status.error.code == "does_not_fit"
    assert "GiB" in status.error.sentence


def test_hundreds_of_workers_and_many_jobs() -> None:
    world = World(7, CALM, n_workers=200, settings=SETTINGS)
    world.invariants.is_on = False  # checking every job after each event would take minutes
    world.submit(product("000000000000", 8192, tile=256))
    world.run(world.all_ended, 7200)
    assert ends_as(world) == {"000000000000": "done"}
    assert len(world.ledger.computed) >= 200
