"""Kills and API faults at random while operations run: all results exact, nothing lost, nothing left."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.faults.storm import STORM
from tests.faults.storms import over_a_fleet, over_one_machine

KILLS, FAULTS, SEED = 20, 100, 20261128
log = logging.getLogger(__name__)


@pytest.mark.timeout(900)
def test_a_storm_over_a_fleet(tmp_path: Path, moto_server: Server) -> None:
    """``make soak`` has ten times as many of both, three times as often, and other seeds."""
    with over_a_fleet(tmp_path, moto_server, SEED) as (weather, _):
        weather.rage(KILLS, FAULTS, STORM.times(0.3))
        weather.check_calm()
        log.info(weather.report())


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_a_storm_over_one_machine(tmp_path: Path) -> None:
    with over_one_machine(tmp_path, SEED) as weather:
        weather.rage(KILLS, 0)
        weather.check_calm()
        log.info(weather.report())
