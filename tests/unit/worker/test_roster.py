"""What a worker says of itself."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.golden.examples import EXAMPLES, GEMM, job
from tilefleet.messages import Gemm, JobTimes, WorkerHello, decode_worker
from workerd.roster import Roster

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
    roster.note_speed(job(WORK), JobTimes(computed_s=2.0, flops=48_000_000_000))
    assert not roster.has_news, "which is about the same"


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
