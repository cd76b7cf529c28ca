"""What daemons write into their logs is bounded: by the jobs they do, and by the pace of trying again while something is away."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.acceptance.deployment import until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server
from tests.faults.proxy import Hurts, Proxy, between, only

DAEMONS = ("coordinator", "stand-by", "w1")
LINES_PER_OPERATION = 4  # adopted, planned, ended; and one to spare
AWAY_S, LINES_PER_S = 10.0, 3  # while a service is away: of each daemon, for each of the things that it tries again


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, moto_server: Server) -> Iterator[tuple[Fleet, Proxy]]:
    with between(moto_server.endpoint_url) as proxy:
        config = fleet_config(Server(proxy.url), Server(proxy.url), moto_server.new_bucket())
        with fleet(tmp_path_factory.mktemp("bounds"), config, "w1") as made:
            made.start("coordinator", "stand-by")
            until(lambda: "standing_by" in made.log("stand-by").read_text(), "the second one stands by")
            made.client.output("random", "64x64", "warm.npy")
            yield made, proxy


def written(made: Fleet) -> Counter[str]:
    """Lines by daemon, so far."""
    return Counter({name: len(made.log(name).read_text().splitlines()) for name in DAEMONS})


def test_who_has_nothing_to_do_says_nothing(far: tuple[Fleet, Proxy]) -> None:
    before = written(far[0])
    time.sleep(8)
    assert written(far[0]) == before


def test_work_costs_a_line_a_job_and_a_few_an_operation(far: tuple[Fleet, Proxy]) -> None:
    made, _ = far
    before = written(made)
    status = made.client.json("random", "3000x2000", "many.npy")
    n_jobs = sum(stage["n_jobs"] for stage in status["stages"])
    grown = written(made) - before
    assert n_jobs >= 2
    assert grown["w1"] == n_jobs
    assert 0 < grown["coordinator"] + grown["stand-by"] <= LINES_PER_OPERATION


def test_a_service_that_is_away_costs_a_few_lines_a_second(far: tuple[Fleet, Proxy]) -> None:
    made, proxy = far
    before = written(made)
    proxy.hurts = only("refuse", 1.0)
    time.sleep(AWAY_S)
    proxy.hurts = Hurts()
    grown = written(made) - before
    assert all(0 < grown[name] <= AWAY_S * LINES_PER_S for name in DAEMONS), grown
    made.client.output("random", "64x64", "after.npy")
