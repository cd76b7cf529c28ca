"""Whatever happens, every job counts once and every operation ends, in hundreds of seeds; a seed replays exactly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.scenario import hostile

SEEDS_PER_TEST = 10


@pytest.mark.parametrize("first", range(0, 250, SEEDS_PER_TEST))
def test_everything_ends_whatever_happens(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        try:
            hostile(seed)
        except Exception as error:
            error.add_note(f"replay it with  python -m tests.simulation.soak 1 {seed}")
            raise


def test_a_seed_replays_exactly_also_in_another_process() -> None:
    program = (
        "from tests.simulation.scenario import hostile; w = hostile(7); print(w.agenda.n_steps, w.now, w.invariants.n_events)"
    )
    said = set()
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}
        )
        said.add(ran.stdout)
    assert len(said) == 1
