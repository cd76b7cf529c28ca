"""What a worker says of itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from coordinator.core.cost import FleetFacts, flop_s
from tests.unit.golden.examples import EXAMPLES, GEMM, job
from tilefleet.messages import Gemm, JobTimes, WorkerHello, decode_worker
from workerd.roster import TIMES_AS_FAST, Roster, Speeds

HELLO = msgspec.structs.replace(msgspec.convert(EXAMPLES["hello"], WorkerHello, from_attributes=True), flops_per_s=1e10)
WORK = msgspec.structs.replace(msgspec.convert(GEMM, Gemm, from_attributes=True), product_dtype="float64", k0=0, k1=600)
LONG = JobTimes(computed_s=2.0, flops=50_000_000_000)


def told(roster: Roster) -> float:
    message = decode_worker(roster.hello())
    assert isinstance(message, WorkerHello)
    return message.flops_per_s


def test_a_speed_that_was_measured_on_a_busy_machine_is_told_again_after_a_product() -> None:
    roster = Roster(HELLO)
    assert (roster.has_news, told(roster)) == (False, 1e10)
    roster.note_speed(job(WORK), LONG)
    assert roster.has_news
    assert (told(roster), roster.has_news) == (2.5e10, False)
    roster.note_speed(job(WORK), JobTimes(computed_s=2.0, flops=49_000_000_000))
    assert not roster.has_news, "which is about the same"


def test_of_speeds_that_are_measured_again_the_best_counts_until_a_product_tells_more() -> None:
    roster = Roster(msgspec.structs.replace(HELLO, bytes_per_s=1e9))
    roster.note_measured(Speeds(9e9, 9e8))
    assert not roster.has_news, "the machine was busy"
    roster.note_measured(Speeds(2e10, 9e8))
    roster.note_measured(Speeds(9e9, 3e9))
    assert roster.has_news
    hello = decode_worker(roster.hello())
    assert isinstance(hello, WorkerHello)
    assert (hello.flops_per_s, hello.bytes_per_s, roster.has_news) == (2e10, 3e9, False)
    roster.note_speed(job(WORK), LONG)
    roster.note_measured(Speeds(9e10, 3e9))
    assert told(roster) == 2.5e10


@pytest.mark.parametrize(("dtype", "expected"), [("complex128", 2.5e10), ("float32", 1.25e10), ("complex64", 1.25e10)])
def test_products_of_other_floats_teach_what_float64_would_take(dtype: str, expected: float) -> None:
    roster = Roster(HELLO)
    roster.note_speed(job(msgspec.structs.replace(WORK, product_dtype=dtype)), LONG)
    assert told(roster) == expected


def test_the_planner_predicts_for_each_type_what_taught_the_speed() -> None:
    """A job of any float type takes as long again as it took."""
    for name, times in TIMES_AS_FAST.items():
        dtype = np.dtype(name)
        real_flops = LONG.flops / (4 if dtype.kind == "c" else 1)
        fleet = FleetFacts(flops_per_s=LONG.flops / LONG.computed_s / times)
        assert flop_s(real_flops, dtype, fleet) == LONG.computed_s


@pytest.mark.parametrize(
    ("dtype", "k", "times"),
    [
        ("float64", 600, JobTimes(computed_s=0.01, flops=50_000_000_000)), ("float64", 600, JobTimes()),
        ("float64", 0, JobTimes(computed_s=2.0)), ("float64", 8, LONG), ("int64", 600, LONG),
    ],
)  # fmt: skip
def test_what_is_short_thin_or_of_another_type_says_nothing_of_its_speed(dtype: str, k: int, times: JobTimes) -> None:
    roster = Roster(HELLO)
    roster.note_speed(job(msgspec.structs.replace(WORK, product_dtype=dtype, k1=k)), times)
    assert (roster.has_news, told(roster)) == (False, 1e10)
