"""Jobs in parts: the same result, in less memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.conftest import OPERATION, Bench
from tilefleet.footprint import peak_bytes
from tilefleet.matrix import Grid, MatrixRef, Operand, Rect
from tilefleet.messages import Elementwise, Epilogue, Export, Gemm, Job, Syrk, Term, Work
from workerd.attempt import attempt
from workerd.budget import Budget
from workerd.context import Context, Outcome
from workerd.smaller import fitting, parts

Sample = Callable[..., np.ndarray]
MIB = 2**20


def square(side: int, tile: int, name: str = "x") -> MatrixRef:
    return MatrixRef(f"file:///{name}", "zarr", (side, side), "float64", (tile, tile), is_ours=True)


def gemm(side: int = 4096, tile: int = 512) -> Gemm:
    x = Operand(square(side, tile))
    return Gemm(x, x, square(side, tile, "out"), Rect(0, side, 0, side), 0, side, tile, "float64")


def job(work: Work, peak: int = 0, halvings: int = 0) -> Job:
    return Job("fleet", OPERATION, "stage", 0, 0, 1, peak, work, halvings)


@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 5)] * 2), st.integers(0, 6))
def test_each_tile_is_in_one_part(n_tiles: tuple[int, int], tile: tuple[int, int], halvings: int) -> None:
    shape = (n_tiles[0] * tile[0] - tile[0] // 2, n_tiles[1] * tile[1] - tile[1] // 2)
    out = MatrixRef("file:///out", "zarr", shape, "int8", tile)
    whole = Rect(0, shape[0], 0, shape[1])
    work = Elementwise((Term(Operand(out)),), out, whole)
    found = Counter(index for part in parts(work, halvings) for index in Grid(shape, tile).tiles_in(part.rect))  # type: ignore[union-attr]
    assert found == dict.fromkeys(out.grid.tiles_in(whole), 1)


def test_each_halving_takes_less_until_a_tile_is_all_there_is() -> None:
    peaks = [max(map(peak_bytes, parts(gemm(), halvings))) for halvings in range(4)]
    assert peaks == sorted(set(peaks), reverse=True)
    assert peaks[1] < peaks[0] / 2
    assert {part.rect.shape for part in parts(gemm(), 9)} == {(512, 512)}  # type: ignore[union-attr]


def test_what_is_symmetric_has_no_part_below_the_diagonal() -> None:
    plain = gemm()
    work = Syrk(*(getattr(plain, name) for name in plain.__struct_fields__))
    rects = [part.rect for part in parts(work, 1)]  # type: ignore[union-attr]
    assert rects == [Rect(0, 2048, 0, 2048), Rect(0, 2048, 2048, 4096), Rect(2048, 4096, 2048, 4096)]
    beside = msgspec.structs.replace(work, rect=Rect(0, 2048, 2048, 4096))
    assert len(parts(beside, 1)) == 4


def test_a_job_is_cut_until_it_fits_this_worker() -> None:
    whole = peak_bytes(gemm())
    assert fitting(job(gemm(), whole), whole) == ([gemm()], whole)
    assert fitting(job(gemm(), whole + 1), whole + 1)[1] == whole + 1, "the plan's word counts when it is higher"
    works, n_bytes = fitting(job(gemm(), whole), whole // 2)
    assert (len(works), n_bytes <= whole // 2) == (4, True)
    works, n_bytes = fitting(job(gemm(), whole), MIB)
    assert (len(works), n_bytes > MIB) == (64, True), "in tiles, and it does not fit all the same"


def test_what_has_no_tiles_stays_whole() -> None:
    export = Export(square(512, 64), Rect(0, 512, 0, 512), "npy", "file:///part")
    assert fitting(job(export, halvings=3), 1) == ([export], peak_bytes(export))


@pytest.mark.parametrize("dtype", ["int64", "float64", "complex64"])
@pytest.mark.parametrize("halvings", [0, 1, 3])
async def test_the_result_is_the_same(bench: Bench, sample: Sample, dtype: str, halvings: int) -> None:
    x, y, c = sample((70, 53), dtype, 1), sample((53, 90), dtype, 2), sample((70, 90), dtype, 3)
    a, b, added = await bench.put("a", x), await bench.put("b", y), await bench.put("c", c)
    out = bench.ref("out", (70, 90), dtype, (16, 16))
    work = Gemm(a, b, out, Rect(0, 70, 0, 90), 0, 53, 53, dtype, Epilogue(beta="1", c=added))
    outcome = await done(bench, work, halvings)
    assert outcome.check_worst is not None
    assert outcome.check_worst < 1
    expected = x @ y + c
    found = await bench.get(out)
    if dtype == "int64":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("halvings", [1, 2])
async def test_a_symmetric_result_is_symmetric_to_the_bit(bench: Bench, sample: Sample, halvings: int) -> None:
    x = sample((80, 31), "float64", 1)
    a = await bench.put("a", x)
    out = bench.ref("out", (80, 80), "float64", (16, 16))
    b = msgspec.structs.replace(a, is_transposed=True)
    await done(bench, Syrk(a, b, out, Rect(0, 80, 0, 80), 0, 31, 31, "float64"), halvings)
    found = await bench.get(out)
    np.testing.assert_allclose(found, x @ x.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found, found.T)


async def test_what_an_earlier_attempt_wrote_is_not_done_again(bench: Bench, sample: Sample) -> None:
    x = sample((64, 64), "int64", 1)
    a = await bench.put("a", x)
    out = bench.ref("out", (64, 64), "int64", (16, 16))
    work = Gemm(a, a, out, Rect(0, 64, 0, 64), 0, 64, 64, "int64")
    first, *others = parts(work, 1)
    await bench.run(first)
    context = bench.context(work)
    context.job = msgspec.structs.replace(context.job, halvings=1)
    await attempt(context, Budget(2**40))
    assert context.clock.times().flops == 2 * 64 * 64 * 64 * len(others) // 4
    np.testing.assert_array_equal(await bench.get(out), x @ x)


async def done(bench: Bench, work: Work, halvings: int) -> Outcome:
    context: Context = bench.context(work)
    context.job = msgspec.structs.replace(context.job, halvings=halvings)
    verdict = await attempt(context, Budget(2**40))
    assert isinstance(verdict, Outcome), verdict
    return verdict
