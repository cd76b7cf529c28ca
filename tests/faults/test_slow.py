"""What is slow and does not fail: a coordinator that stands still now and then, a store that takes its time."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.deployment import until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server
from tests.faults.proxy import Proxy, between, only
from tilefleet.client import Client

SMALL, LARGE = ((16_000, 20), (100, 20)), ((24_000, 400), (300, 400))  # shapes and tiles: 160 jobs of little, 80 of 1 MB
WORKERS = ("w1", "w2")
WINDOW = 3 * len(WORKERS)  # attempts that are out at a time
SHORT_S, LONG_S = 1.5, 4.0  # a stand-by waits for five silent beacons, 2.5 s; a worker is lost after 3 s of silence
MORE_BYTES = 48 * 2**20  # of a worker: two jobs of 3 MB each; all that is to be read would be 150 MB

log = logging.getLogger(__name__)


@pytest.fixture
def slow(tmp_path: Path, moto_server: Server) -> Iterator[tuple[Fleet, Proxy]]:
    """A fleet whose daemons see their store through a proxy; its client does not."""
    bucket = moto_server.new_bucket()
    with between(moto_server.endpoint_url) as store:
        config = fleet_config(Server(store.url), moto_server, bucket)
        with fleet(tmp_path, config, *WORKERS) as made:
            direct = config.replace(store.url, moto_server.endpoint_url)
            (made.client.directory / "tilefleet.toml").write_text(direct, encoding="utf-8")
            yield made, store


def url(made: Fleet, name: str) -> str:
    return made.client.user_url(f"{name}.zarr")


async def brought(made: Fleet, shape: tuple[int, int], tile: tuple[int, int]) -> None:
    """The operand of ``submitted`` comes into the store."""
    np.save(made.client.directory / "a.npy", np.random.default_rng(6).integers(-99, 99, shape))
    async with Client(made.client.config) as client:
        await (await client.convert(made.client.directory / "a.npy", out=url(made, "a"), tile=tile)).wait()


async def submitted(made: Fleet, tile: tuple[int, int]) -> str:
    """A sum with a job for each tile."""
    async with Client(made.client.config) as client:
        return (await client.add(url(made, "a"), url(made, "a"), out=url(made, "sum"), tile=tile)).id


async def with_a_small_one_before_it_ends(made: Fleet) -> str:
    operation = await submitted(made, LARGE[1])
    async with Client(made.client.config) as client:
        small = await client.random((10, 10), seed=1)
        assert (await small.wait()).state == "done"
        large = await (await client.find(operation)).status()
    assert large is not None
    assert not large.is_ended, "the small one had its turn"
    return operation


def shown(made: Fleet, operation: str) -> Any:
    return made.client.json("show", operation)


def is_open(made: Fleet, operation: str) -> bool:
    return shown(made, operation)["state"] in ("queued", "running")


def assert_right(made: Fleet, operation: str) -> None:
    status = shown(made, operation)
    assert status["state"] == "done", status
    made.client.output("convert", url(made, "sum"), "sum.npy")
    np.testing.assert_array_equal(np.load(made.client.directory / "sum.npy"), 2 * np.load(made.client.directory / "a.npy"))


def n_repeated(made: Fleet, operation: str) -> int:
    """How often jobs were done that had been done."""
    done = [line["job"] for name in WORKERS for line in made.events(name, "job_done") if line["operation"] == operation]
    return len(done) - len(set(done))


def leader(made: Fleet) -> str:
    """Who took the lead last."""
    epochs = {name: [line["epoch"] for line in made.events(name, "lead_taken")] for name in made.daemons if name not in WORKERS}
    return max(epochs, key=lambda name: max(epochs[name], default=0))


def epoch(made: Fleet) -> int:
    return int(max(line["epoch"] for line in made.events(leader(made), "lead_taken")))


def stand_still(made: Fleet, operation: str, stop_s: float) -> int:
    """Stop whoever leads for that long, again and again, until the operation has ended; how often. It is under way by then."""
    until(
        lambda: any(line["operation"] == operation for name in WORKERS for line in made.events(name, "job_done")), "a job is done"
    )
    n_stops = 0
    while is_open(made, operation):
        daemon = made.daemons[leader(made)]
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(stop_s)
        daemon.send_signal(signal.SIGCONT)
        n_stops += 1
        assert n_stops < 30, f"{operation} does not end"
        time.sleep(0.3)
    return n_stops


@pytest.mark.thorough
def test_a_coordinator_that_stands_still_now_and_then_loses_no_worker_and_repeats_no_work(slow: tuple[Fleet, Proxy]) -> None:
    made, _ = slow
    asyncio.run(brought(made, *SMALL))
    operation = asyncio.run(submitted(made, SMALL[1]))
    n_stops = stand_still(made, operation, LONG_S)
    totals = shown(made, operation)["totals"]
    log.info("%s stops", n_stops)
    assert n_stops >= 1
    assert totals["attempts"] == totals["jobs"] == SMALL[0][0] // SMALL[1][0] + 1, "publishing is one, too"
    assert n_repeated(made, operation) == 0
    assert_right(made, operation)


@pytest.mark.thorough
@pytest.mark.parametrize("stop_s", [SHORT_S, LONG_S])
def test_a_stand_by_does_not_fight_with_a_leader_that_stands_still(slow: tuple[Fleet, Proxy], stop_s: float) -> None:
    made, _ = slow
    asyncio.run(brought(made, *SMALL))
    made.start("coordinator", "stand-by")
    until(lambda: bool(made.events("stand-by", "standing_by")), "it stands by")
    operation = asyncio.run(submitted(made, SMALL[1]))
    n_stops = stand_still(made, operation, stop_s)
    n_changes = epoch(made) - 1
    log.info("%s stops, %s changes, %s repeated", n_stops, n_changes, n_repeated(made, operation))
    assert n_stops >= 1
    assert n_changes <= (0 if stop_s == SHORT_S else n_stops)
    assert n_repeated(made, operation) <= n_changes * WINDOW
    assert_right(made, operation)
    until(
        lambda: len(made.events("coordinator", "stepped_down")) + len(made.events("stand-by", "stepped_down")) == n_changes,
        "who was overtaken, knows",
    )


def most_bytes(made: Fleet, name: str) -> int:
    """The most memory that a daemon ever had."""
    status = Path(f"/proc/{made.daemons[name].pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


@pytest.mark.thorough
@pytest.mark.parametrize("is_throttled", [False, True])
def test_a_slow_store_is_waited_for_within_memory_and_small_operations_have_their_turn(
    slow: tuple[Fleet, Proxy], is_throttled: bool
) -> None:
    made, store = slow
    asyncio.run(brought(made, *LARGE))
    before = {name: most_bytes(made, name) for name in made.daemons}
    if is_throttled:
        store.requests_per_s = 30.0
    else:
        store.hurts = only("delay", 1.0, delay_s=0.8)
    operation = asyncio.run(with_a_small_one_before_it_ends(made))
    until(lambda: not is_open(made, operation), "the large one ends", 300)
    found = {name: most_bytes(made, name) for name in made.daemons}
    log.info("MB: %s; requests: %s", {name: (before[name] >> 20, found[name] >> 20) for name in found}, store.counts)
    assert {name for name in found if found[name] > before[name] + MORE_BYTES} == set()
    store.hurts, store.requests_per_s = only("delay", 0.0), None
    assert_right(made, operation)
