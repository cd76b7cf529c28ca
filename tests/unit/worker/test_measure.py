"""What a worker measures of itself after its start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tilefleet.errors import Unreachable
from workerd import measure
from workerd.roster import Speeds


async def test_it_is_measured_some_times_more_but_only_while_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "EVERY_S", 0.0)
    answers: Iterator[Speeds | Unreachable] = iter([Speeds(1.0, 2.0), Unreachable("the store is away"), Speeds(3.0, 4.0)])
    idle = iter([False, True, False, True, True])

    async def measured() -> Speeds:
        answer = next(answers)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    assert [speeds async for speeds in measure.while_idle(measured, lambda: next(idle))] == [(1.0, 2.0), (3.0, 4.0)]
