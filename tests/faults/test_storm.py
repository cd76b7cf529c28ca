"""Kills and API faults at random while operations run: all results exact, nothing lost, nothing left."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.faults.storm import storm

KILLS, FAULTS, SEED = 20, 100, 20261128


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_a_storm(tmp_path: Path, moto_server: Server) -> None:
    """``make soak`` has 200 kills, 1,000 faults, and other seeds."""
    with storm(tmp_path, moto_server, moto_server, SEED) as weather:
        weather.rage(KILLS, FAULTS)
        weather.assert_nothing_is_left()
        logging.getLogger(__name__).info(weather.report())
