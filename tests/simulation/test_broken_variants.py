"""The simulation can fail: each rule that is left out on purpose is noticed, within a stated number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.broken import VARIANTS
from tests.simulation.scenario import hostile


@pytest.mark.parametrize("name", VARIANTS)
def test_a_broken_variant_is_caught(name: str) -> None:
    variant = VARIANTS[name]
    for seed in range(variant.n_seeds):
        try:
            hostile(seed, variant.cast, variant.habits)
        except AssertionError:
            return
    pytest.fail(f"{name} went unnoticed in {variant.n_seeds} seeds")


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.habits is not None])
def test_the_faults_that_catch_it_break_nothing_that_is_sound(name: str) -> None:
    for seed in range(5):
        hostile(seed, faults=VARIANTS[name].habits)
