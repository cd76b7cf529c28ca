"""How products are cut."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import cost
from coordinator.core.cost import FleetFacts, GemmShape, choose_gemm, lower_bound_bytes
from coordinator.core.plans import Settings
from coordinator.core.stages import CheckStage, GemmStage, ProjectStage, ReduceStage, Stage, SyrkStage
from tests.unit.coordinator.examples import FLEET, OP, STORE, matrix, plan_all, record, verification
from tilefleet.footprint import peak_bytes
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Gemm, Work
from tilefleet.records import OperationRecord


def template(m: int, k: int, n: int, tile: tuple[int, int] = (1024, 1024), above: str = "s3://data") -> Gemm:
    a = MatrixRef(f"{above}/a", "zarr", (m, k), "float64", tile, is_ours=True)
    b = MatrixRef(f"{above}/b", "zarr", (k, n), "float64", tile, is_ours=True)
    out = MatrixRef(f"{above}/c", "zarr", (m, n), "float64", tile, is_ours=True)
    return Gemm(Operand(a), Operand(b), out, Rect(0, m, 0, n), 0, k, 1, "float64")


def plain(work: Gemm) -> Gemm:
    """The same with tiles that carry no checksum: of such on this machine's disk, a panel's part is read and no more."""
    a, b = (
        msgspec.structs.replace(x, matrix=msgspec.structs.replace(x.matrix, layout="raw", is_ours=False))
        for x in (work.a, work.b)
    )
    return msgspec.structs.replace(work, a=a, b=b)


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """The cuts the planner looks at from now on: how long it thinks, whatever the machine."""
    looks: list[Work] = []

    def look(work: Work) -> int:
        looks.append(work)
        return peak_bytes(work)

    monkeypatch.setattr(cost, "peak_bytes", look)
    return looks


def gemm_stages(m: int, k: int, n: int, fleet: FleetFacts = FLEET, job_target_s: float = 20.0) -> list[Stage]:
    (main,) = plan_all(record("multiply", m=m, k=k, n=n), fleet, Settings(STORE, job_target_s), m=m, k=k, n=n)
    return [stage for stage in main.stages if stage.phase == "compute"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40_000), st.integers(1, 40_000), st.integers(1, 40_000), st.integers(1, 200))
def test_jobs_keep_to_the_target_where_tiles_allow_it(m: int, k: int, n: int, n_workers: int) -> None:
    fleet = FleetFacts(n_workers=n_workers, memory_bytes=4 << 30)
    stage = gemm_stages(m, k, n, fleet)[0]
    assert isinstance(stage, GemmStage)
    least_s = 2 * 256 * 256 * k / fleet.flops_per_s
    assert stage.job_s <= max(20.0, 40 * least_s)
    assert stage.peak_bytes <= fleet.job_bytes
    assert 1 <= stage.panel_k <= k


def test_a_shorter_target_gives_shorter_jobs() -> None:
    patient, hasty = gemm_stages(20_000, 20_000, 20_000)[0], gemm_stages(20_000, 20_000, 20_000, job_target_s=3.0)[0]
    assert hasty.job_s <= 3.0
    assert hasty.n_jobs > patient.n_jobs


def test_a_product_with_a_long_inside_and_a_small_result_is_cut_along_k() -> None:
    split, reduce = gemm_stages(1000, 10**6, 1000, FleetFacts(n_workers=8, memory_bytes=1 << 30))
    assert isinstance(split, GemmStage)
    assert isinstance(reduce, ReduceStage)
    assert split.n_splits >= 8
    assert split.epilogue is None
    assert reduce.after == ("multiply",)
    assert (reduce.n_parts, reduce.parts.url) == (split.n_splits, split.out.url)
    assert reduce.out.tile == reduce.parts.tile


def test_alpha_beta_and_c_come_after_the_sum_of_the_parts() -> None:
    k = 10**6
    c = Operand(MatrixRef("s3://data/c.zarr", "zarr", (1000, 1000), "float64", (512, 512), is_ours=True))
    made = record("multiply", m=1000, k=k, n=1000, alpha="2", beta="-1", c=c)
    fleet = FleetFacts(n_workers=8, memory_bytes=1 << 30)
    split, reduce, _ = plan_all(made, fleet, m=1000, k=k, n=1000)[0].stages
    assert isinstance(split, GemmStage)
    assert isinstance(reduce, ReduceStage)
    assert split.epilogue is None
    assert reduce.epilogue is not None
    assert (reduce.epilogue.alpha, reduce.epilogue.beta, reduce.epilogue.c) == ("2", "-1", c)


def test_one_small_product_is_one_job_and_planning_it_takes_few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = counted_looks(monkeypatch)
    (stage,) = gemm_stages(100, 100, 100)
    assert stage.n_jobs == 1
    assert len(looks) <= 10


@pytest.mark.parametrize("n", [10_000, 100_000, 1_000_000])
def test_planning_a_large_product_takes_no_more_looks_than_a_few_thousand(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = counted_looks(monkeypatch)
    gemm_stages(n, n, n, FleetFacts(n_workers=1000, memory_bytes=8 << 30))
    assert len(looks) <= 3000


def test_every_worker_gets_work_of_a_product_that_is_large_enough() -> None:
    for n_workers in (1, 2, 7, 16, 64):
        stage = gemm_stages(16_384, 16_384, 16_384, FleetFacts(n_workers=n_workers, memory_bytes=1 << 30))[0]
        assert stage.n_jobs >= n_workers


def test_a_few_blocks_are_of_one_size() -> None:
    """The default tile of 2000 rows is 1024: two workers with 1024 and 976 of them take as long as for 2048."""
    fleet = FleetFacts(n_workers=2, memory_bytes=2 << 30, flops_per_s=1e11, bytes_per_s=5e9)
    work = plain(template(2000, 60_000, 2000, (2000, 2000), "file:///data"))
    chosen = choose_gemm(GemmShape(work, 2000, 2000, 60_000, np.dtype("float64"), None), fleet, 20.0)
    assert (chosen.tile, chosen.block, chosen.n_splits) == ((1000, 1000), (1000, 2000), 1)


def test_the_tile_somebody_asks_for_is_the_tile() -> None:
    made = record("multiply", m=5000, k=700, n=5000, tile=(300, 700))
    (main,) = plan_all(made, m=5000, k=700, n=5000)
    stage = main.stages[0]
    assert isinstance(stage, GemmStage)
    assert stage.out.tile == (300, 700)
    assert (stage.block[0] % 300, stage.block[1] % 700) == (0, 0)
    assert main.result is not None
    assert main.result.tile == (300, 700)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 5000, 1), (1, 1, 5000), (5000, 1, 1), (5, 0, 7), (0, 5, 7), (5, 7, 0)])
def test_thin_and_empty_products(m: int, k: int, n: int) -> None:
    stages = gemm_stages(m, k, n)
    assert stages[-1].n_jobs == (1 if m * n else 0)


def test_a_choice_moves_no_less_than_is_possible() -> None:
    for n_workers in (1, 8, 64):
        fleet = FleetFacts(n_workers=n_workers, memory_bytes=2 << 30)
        shape = GemmShape(template(20_000, 20_000, 20_000), 20_000, 20_000, 20_000, np.dtype("float64"), None)
        choice = choose_gemm(shape, fleet, 20.0)
        assert choice.bytes_moved >= lower_bound_bytes(20_000, 20_000, 20_000, 8, fleet.memory_bytes)
        assert choice.makespan_s >= 2 * 20_000**3 / (n_workers * fleet.flops_per_s)


@pytest.mark.parametrize("side", [1024, 2048])
@pytest.mark.parametrize("memory_bytes", [188_500_000, 200_000_000])
@pytest.mark.parametrize("n_workers", [1, 2, 16])
def test_a_product_16_times_larger_than_the_memory_moves_little_more_than_is_possible(
    side: int, memory_bytes: int, n_workers: int
) -> None:
    fleet, n = FleetFacts(n_workers=n_workers, memory_bytes=memory_bytes, flops_per_s=3e10, bytes_per_s=2e9), 16_384
    local = plain(template(n, n, n, (side, side), "file:///data"))
    choice = choose_gemm(GemmShape(local, n, n, n, np.dtype("float64"), (side, side)), fleet, 20.0)
    assert choice.bytes_moved <= 1.6 * lower_bound_bytes(n, n, n, 8, memory_bytes)


def test_tiles_that_come_whole_are_counted_for_each_panel() -> None:
    checked = template(8192, 8192, 8192)
    shape = GemmShape(checked, 8192, 8192, 8192, np.dtype("float64"), None)
    ample, scarce = (choose_gemm(shape, FleetFacts(memory_bytes=memory), 60.0) for memory in (4 << 30, 200 << 20))
    assert ample.panel_k == 1024
    assert scarce.bytes_moved >= ample.bytes_moved
    thin = cost._choice(shape, FleetFacts(), (1024, 1024), (2048, 2048), 256, 1, peak=0)
    whole = cost._choice(shape, FleetFacts(), (1024, 1024), (2048, 2048), 1024, 1, peak=0)
    written = 8 * 8192**2
    assert thin.bytes_moved - written == 4 * (whole.bytes_moved - written)


@pytest.mark.parametrize("memory_mib", range(200, 1000, 130))
@pytest.mark.parametrize("n", [12_288, 20_000, 32_768])
def test_large_square_products_move_at_most_twice_what_is_possible(n: int, memory_mib: int) -> None:
    fleet = FleetFacts(memory_bytes=memory_mib << 20, flops_per_s=3e10, bytes_per_s=2e9)
    local = plain(template(n, n, n, above="file:///data"))
    choice = choose_gemm(GemmShape(local, n, n, n, np.dtype("float64"), None), fleet, job_target_s=1e6)
    assert choice.bytes_moved <= 2 * lower_bound_bytes(n, n, n, 8, fleet.memory_bytes)
    assert choice.peak_bytes <= fleet.memory_bytes


def test_checking_a_product_projects_all_of_b_and_checks_all_of_c() -> None:
    made = verification(record("multiply", m=10_000, k=9_000, n=8_000), (10_000, 8_000))
    for memory in (1 << 30, 4 << 30):
        project, check = plan_all(made, FleetFacts(n_workers=2, memory_bytes=memory))[0].stages
        assert isinstance(project, ProjectStage)
        assert isinstance(check, CheckStage)
        assert (project.n_rows, check.n_rows) == (9_000, 10_000)
        assert (check.template.projection_rows, check.template.n_projections) == (project.band_rows, project.n_jobs)
        assert check.template.projections_url == project.facts_url
        assert max(project.peak_bytes, check.peak_bytes) <= memory // 2


def symmetric(n: int, k: int, fleet: FleetFacts = FLEET, **more: Any) -> list[Stage]:
    x = Operand(matrix("a", (k, n), "zarr"))
    asked = OperationRecord(OP, "multiply", Operand(x.matrix, is_transposed=True), x, **more)
    (main,) = plan_all(asked, fleet, Settings(STORE, 20.0), m=n, k=k, n=n)
    return [stage for stage in main.stages if stage.phase == "compute"]


@pytest.mark.parametrize(("n", "k"), [(8192, 8192), (20_000, 5_000), (3000, 200_000)])
def test_a_matrix_times_its_own_transpose_takes_little_more_than_half_of_the_work(n: int, k: int) -> None:
    stage, plain = symmetric(n, k)[0], gemm_stages(n, k, n)[0]
    assert isinstance(stage, SyrkStage)
    assert type(plain) is GemmStage
    flops = sum(2 * rect.size * (work.k1 - work.k0) for work in map(stage.work, range(stage.n_jobs)) for rect in [work.rect])
    assert flops <= 0.8 * 2 * n * n * k
    assert stage.peak_bytes <= FLEET.job_bytes
    assert stage.block[0] == stage.block[1] and stage.out.tile is not None and stage.out.tile[0] == stage.out.tile[1]


def test_a_product_is_not_taken_for_symmetric_when_something_is_added_or_its_tiles_lie_across() -> None:
    c = Operand(matrix("c", (2000, 2000), "zarr"))
    assert type(symmetric(2000, 2000, c=c)[0]) is GemmStage
    assert type(symmetric(2000, 2000, tile=(256, 512))[0]) is GemmStage
    assert isinstance(symmetric(2000, 2000, tile=(256, 256), alpha="2")[0], SyrkStage)
    assert isinstance(symmetric(0, 5)[0], SyrkStage)
