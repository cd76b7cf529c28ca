"""The stopwatch of an attempt: sums for the completion, spans for a timeline."""

from __future__ import annotations

import pytest

from workerd.context import Stopwatch


def test_a_phase_is_a_span_and_counts_in_its_sum() -> None:
    clock = Stopwatch()
    for _ in range(2):
        with clock.phase("fetched"):
            pass
    clock.add_s("waited", 3.0)
    spans, times = clock.spans(), clock.times()
    assert [name for name, _, _ in spans] == ["fetched", "fetched"]
    assert 0 <= spans[0][1] <= spans[0][2] <= spans[1][1] <= spans[1][2] <= times.total_s
    assert times.fetched_s == pytest.approx(sum(ended - began for _, began, ended in spans), abs=1e-5)
    assert times.waited_s == 3.0
