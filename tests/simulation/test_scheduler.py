"""The real scheduler in a simulated world: whatever happens, every job is done once, and every operation ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coordinator.core.scheduler import Scheduler
from coordinator.core.stage_run import StageRun
from tests.simulation.scenario import SETTINGS, ends_as, hostile, mixed, product
from tests.simulation.world import CALM, Habits, World


def test_calm_world_does_each_job_exactly_once() -> None:
    world = World(0, CALM, n_workers=4, settings=SETTINGS)
    for record in mixed(4):
        world.submit(record)
    world.run(world.all_ended, 3600)
    assert set(ends_as(world).values()) == {"done"}
    assert set(world.commits.values()) == {1}


@pytest.mark.parametrize("seed", range(120))
def test_everything_ends_whatever_happens(seed: int) -> None:
    hostile(seed)


def test_two_operations_share_the_fleet_and_the_small_one_is_not_kept_waiting() -> None:
    world = World(1, CALM, n_workers=2, settings=SETTINGS)
    world.submit(product("000000000000", 8192, tile=256))
    world.run(lambda: len(world.commits) > 20, 3600)
    world.submit(product("000000000001", 512, tile=256))
    world.run(lambda: ends_as(world)["000000000001"] == "done", 3600)
    assert ends_as(world)["000000000000"] == "running"


def test_a_poison_job_fails_its_operation_by_name_and_the_others_go_on() -> None:
    habits = changed(CALM, fail=1.0)
    world = World(2, habits, n_workers=2, settings=SETTINGS)
    world.submit(product("000000000000", 512))
    world.run(world.all_ended, 3600)
    status = world.store["000000000000"].status
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
    status = world.store["000000000000"].status
    assert status is not None
    assert status.state == "queued"
    assert "worker" in status.note
    world.run(world.all_ended, 1200)
    status = world.store["000000000000"].status
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
    world.run(lambda: len(world.commits) > 5, 3600)
    world.cancel("000000000000")
    world.run(world.all_ended, 60)
    assert ends_as(world) == {"000000000000": "cancelled"}


def test_too_small_workers_refuse_with_the_memory_that_would_do() -> None:
    world = World(6, CALM, n_workers=0, settings=SETTINGS)
    world.submit(product("000000000000", 8192, tile=8192))
    world._start_worker("w0")
    world.run(world.all_ended, 600)
    status = world.store["000000000000"].status
    assert status is not None
    assert status.error is not None
    assert status.error.code == "does_not_fit"
    assert "GiB" in status.error.sentence


def test_a_thousand_workers_and_many_jobs() -> None:
    world = World(7, CALM, n_workers=1000, settings=SETTINGS)
    world.is_checking = False  # checking every job after each event would take minutes
    world.submit(product("000000000000", 20480, tile=256))
    world.run(world.all_ended, 7200)
    assert ends_as(world) == {"000000000000": "done"}
    assert len(world.commits) >= 1000


def changed(habits: Habits, **changes: float) -> Habits:
    """A copy of the habits with some changed."""
    return Habits(**{**vars(habits), **changes})


# ---- the simulation can fail: broken variants of the scheduler must be caught ---------------------------------------


class ForgetsRetries(Scheduler):
    """A failed attempt is dropped."""

    def _try_again(self, run: Any, stage: StageRun, index: int, *_: Any) -> None:
        stage.out.pop(index, None)


class CountsTwice(StageRun):
    """A job heard twice counts twice."""

    def is_done(self, index: int) -> bool:
        return False


class NeverLosesWorkers(Scheduler):
    """A silent worker keeps what it held for ever."""

    def _lose(self, worker: Any, now: float) -> None:
        return

    def _retry_unheld(self, now: float) -> None:
        return

    def _double_stragglers(self, now: float) -> None:
        return


class ForgetsTheStore(Scheduler):
    """After a restart, what is done already is believed without looking."""

    def _adopt(self, event: Any, now: float) -> None:
        everything = {
            stage.name: tuple(range(stage.n_jobs)) for saved in event.plans.values() for stage in saved.stages
        }  # fmt: skip
        super()._adopt(msgspec.structs.replace(event, done=everything), now)


class HasNoWindow(Scheduler):
    """Everything is sent at once."""

    def _fill_window(self, now: float) -> None:
        self.settings = msgspec.structs.replace(self.settings, jobs_per_worker=1000)
        super()._fill_window(now)


@pytest.mark.parametrize("broken", [ForgetsRetries, NeverLosesWorkers, ForgetsTheStore, HasNoWindow])
def test_a_broken_scheduler_is_caught(broken: type[Scheduler], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.world.Scheduler", broken)
    caught = 0
    for seed in range(8):
        habits = Habits(
            die_in_job=0.1, fail=0.1, duplicate=0, coordinator_crash_every_s=15.0 if broken is ForgetsTheStore else 0.0
        )
        try:
            world = World(seed, habits, n_workers=4, settings=SETTINGS)
            world.submit(product("000000000000"))
            world.run(world.all_ended, 1800)
        except AssertionError:
            caught += 1
    assert caught, f"{broken.__name__} went unnoticed"


def test_counting_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.core.operation_run.StageRun", CountsTwice)
    world = World(0, Habits(), n_workers=4, settings=SETTINGS)
    with pytest.raises(AssertionError):
        world.submit(product("000000000000"))
        world.run(world.all_ended, 1800)
