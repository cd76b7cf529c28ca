"""A taste of the fuzzing in every test run; ``make fuzz`` goes on for as long as it is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.doors import doors
from tests.fuzz.trial import tried, trouble_with

SEED = 20261128
N_INPUTS = 300
DOORS = doors()


@pytest.mark.parametrize("name", DOORS)
def test_good_inputs_pass(name: str) -> None:
    assert [trouble for seed in DOORS[name].seeds if (trouble := trouble_with(DOORS[name], seed)) is not None] == []


@pytest.mark.parametrize("name", DOORS)
def test_inputs_that_are_nearly_right(name: str) -> None:
    assert tried(name, SEED, N_INPUTS).troubles == []


@pytest.mark.parametrize("name", DOORS)
@given(data=st.binary(max_size=200))
def test_anything(name: str, data: bytes) -> None:
    assert trouble_with(DOORS[name], data) is None
