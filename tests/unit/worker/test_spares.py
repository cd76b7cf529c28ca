"""Buffers that jobs leave: found again by size, never one twice, and never more than no job holds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.unit.worker.conftest import Bench
from tilefleet.errors import BadInput
from tilefleet.footprint import peak_bytes
from tilefleet.matrix import Rect
from tilefleet.messages import Gemm
from workerd.budget import Budget
from workerd.spares import MOST, Spares

F64, C128 = np.dtype(np.float64), np.dtype(np.complex128)


def test_what_was_left_is_taken_again_once() -> None:
    spares = Spares()
    first, second = spares.take(100, F64), spares.take(100, F64)
    spares.leave(first)
    again, other = spares.take(50, C128), spares.take(100, F64)
    assert again.dtype == C128 and again.shape == (50,) and np.shares_memory(again, first)
    assert not np.shares_memory(other, first) and not np.shares_memory(other, second)


def test_a_job_never_takes_more_than_it_asks_for() -> None:
    """Its memory was granted to the byte."""
    spares = Spares()
    left = spares.take(60, F64)
    spares.leave(left)
    for size in (59, 61):
        assert not np.shares_memory(spares.take(size, F64), left)
    assert spares.n_bytes == left.nbytes
    assert np.shares_memory(spares.take(60, F64), left) and spares.n_bytes == 0


def test_the_oldest_go_when_there_are_too_many_or_memory_is_needed() -> None:
    spares = Spares()
    buffers = [spares.take(100 + n, F64) for n in range(MOST + 1)]
    for buffer in buffers:
        spares.leave(buffer)
    assert spares.n_bytes == sum(buffer.nbytes for buffer in buffers[1:])
    spares.keep_within(buffers[-1].nbytes)
    assert np.shares_memory(spares.take(buffers[-1].size, F64), buffers[-1]) and spares.n_bytes == 0


async def test_memory_for_a_job_comes_before_what_others_left() -> None:
    budget = Budget(2000)
    for _ in range(2):
        budget.spares.leave(np.empty(800, np.uint8).view())
    async with budget.hold(1000):
        assert budget.spares.n_bytes == 800
    async with budget.hold(2000):
        assert budget.spares.n_bytes == 0


async def test_a_product_of_one_panel_has_one_set_of_buffers(bench: Bench) -> None:
    x = np.ones((64, 96))
    a, b = await bench.put("a", x), await bench.put("b", x.T.copy())
    work = Gemm(a, b, bench.ref("out", (64, 64), "float64"), Rect(0, 32, 0, 48), 0, 96, 96, "float64")
    await bench.run(work)
    assert bench.around.spares.n_bytes == 8 * (32 * 96 + 96 * 48 + 32 * 48)
    halves = msgspec.structs.replace(work, panel_k=95)
    assert peak_bytes(halves) - peak_bytes(work) > 8 * 80 * 90


async def test_a_product_that_fails_leaves_nothing(bench: Bench) -> None:
    """A thread may still be reading into its panels."""
    x = np.ones((64, 96))
    a, b = await bench.put("a", x), await bench.put("b", x.T.copy())
    out = bench.ref("out", (64, 64), "float64")
    await bench.run(Gemm(a, b, out, Rect(0, 32, 0, 48), 0, 96, 48, "float64"))
    assert bench.around.spares.n_bytes == 8 * (2 * (32 * 48 + 48 * 48) + 32 * 48)
    tile = bench.directory / "store" / "b" / "c" / "2" / "0"
    tile.write_bytes(tile.read_bytes()[:-1])
    with pytest.raises(BadInput, match="is damaged"):
        await bench.run(Gemm(a, b, out, Rect(32, 64, 0, 48), 0, 96, 48, "float64"))
    assert bench.around.spares.n_bytes == 0
