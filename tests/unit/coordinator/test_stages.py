"""Stages as index arithmetic: every part of the output belongs to exactly one job, and keys say which."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.plans import Plan
from coordinator.core.stages import (
    BlockStage,
    CheckStage,
    ElementwiseStage,
    ExportStage,
    GemmStage,
    GunzipStage,
    ParseStage,
    ProjectStage,
    PublishStage,
    RandomStage,
    ReduceStage,
    ScanStage,
    Stage,
    SyrkStage,
    serpentine,
    serpentine_index,
)
from tests.unit.coordinator.examples import KINDS, OP, matrix, output, plan_all, record, verification
from tilefleet import layout
from tilefleet.matrix import Grid, MatrixRef, Operand, Rect, tile_key
from tilefleet.messages import Check, Export, Gemm, Project, Publish, ScanCsv, Syrk, Term
from tilefleet.records import from_json, to_json

URL = "s3://fleet/store/x"
sides = st.integers(1, 9)
lengths = st.integers(0, 60)


@st.composite
def block_stages(draw: st.DrawFn) -> BlockStage:
    """Any stage that writes tiles: of ragged shapes, by blocks of several tiles."""
    shape, tile = (draw(lengths), draw(lengths)), (draw(sides), draw(sides))
    out = MatrixRef(URL, "zarr", shape, "float64", tile, is_ours=True)
    block = (tile[0] * draw(st.integers(1, 4)), tile[1] * draw(st.integers(1, 4)))
    k = draw(st.integers(0, 40))
    a, b = Operand(matrix("a", (shape[0], k), "zarr")), Operand(matrix("b", (k, shape[1]), "zarr"))
    base: dict[str, Any] = {"name": "s", "phase": "compute", "out": out, "block": block}
    if draw(st.booleans()):
        return draw(
            st.sampled_from(
                [
                    ReduceStage(**base, parts=out, n_parts=3),
                    ElementwiseStage(**base, terms=(Term(a),)),
                    RandomStage(**base, low="0", high="1", seed=1),
                ]
            )
        )
    split_k = draw(st.integers(1, 40))
    n_splits = max(1, -(-k // split_k)) if draw(st.booleans()) else 1
    return GemmStage(**base, a=a, b=b, panel_k=4, product_dtype="float64", n_splits=n_splits, split_k=split_k)


@given(block_stages())
def test_every_tile_belongs_to_exactly_one_job_and_its_key_says_which(stage: BlockStage) -> None:
    n_splits = stage.n_splits if isinstance(stage, GemmStage) else 1
    found: Counter[tuple[int, int, int]] = Counter()
    for index in range(stage.n_jobs):
        rect, split = stage.rect(index), index // max(1, stage.blocks.n_tiles)
        tiles = list(stage.out.grid.tiles_in(rect))
        assert len(tiles) == stage.n_keys(index) > 0
        for i, j in tiles:
            found[split, i, j] += 1
            key = tile_key(i, j) if n_splits == 1 else f"{split}/{tile_key(i, j)}"
            assert stage.job_of_key(key) == index
        assert stage.work(index).rect == rect  # type: ignore[union-attr]
    assert set(found.values()) <= {1}
    assert len(found) == stage.out.grid.n_tiles * n_splits


@given(lengths, sides, st.integers(1, 4), st.integers(1, 40), st.integers(1, 3))
def test_every_tile_of_a_symmetric_product_belongs_to_one_job_as_does_the_one_across(
    n: int, tile: int, tiles_per_block: int, k: int, n_splits: int
) -> None:
    out, x = MatrixRef(URL, "zarr", (n, n), "float64", (tile, tile), is_ours=True), matrix("a", (k, n), "zarr")
    stage = SyrkStage(
        name="s", phase="compute", out=out, block=(tile * tiles_per_block,) * 2, a=Operand(x, is_transposed=True), b=Operand(x),
        panel_k=4, product_dtype="float64", n_splits=n_splits, split_k=k,
    )  # fmt: skip
    found: Counter[tuple[int, int, int]] = Counter()
    for index in range(stage.n_jobs):
        work, split = stage.work(index), index // stage.n_blocks
        assert isinstance(work, Syrk)
        assert work.rect == stage.rect(index)
        tiles = [tile for rect in work.outputs for tile in out.grid.tiles_in(rect)]
        assert len(tiles) == stage.n_keys(index) > 0
        for i, j in tiles:
            found[split, i, j] += 1
            assert stage.job_of_key(tile_key(i, j) if n_splits == 1 else f"{split}/{tile_key(i, j)}") == index
    assert set(found.values()) <= {1}
    assert len(found) == out.grid.n_tiles * n_splits
    assert from_json(to_json(stage), SyrkStage, "a stage") == stage


@given(block_stages())
def test_the_blocks_of_a_stage_cover_each_element_once(stage: BlockStage) -> None:
    m, n = stage.out.grid.shape
    n_splits = stage.n_splits if isinstance(stage, GemmStage) else 1
    assert sum(stage.rect(index).size for index in range(stage.n_jobs)) == m * n * n_splits


@given(block_stages())
def test_split_k_covers_k_once(stage: BlockStage) -> None:
    if not isinstance(stage, GemmStage) or stage.n_jobs == 0:
        return
    works = [stage.work(index) for index in range(0, stage.n_jobs, stage.blocks.n_tiles)]
    ranges = [(work.k0, work.k1) for work in works if isinstance(work, Gemm)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == stage.k
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert len({work.out.url for work in works if isinstance(work, Gemm)}) == stage.n_splits


@given(block_stages(), st.text("c/0123456789x", max_size=12))
def test_other_keys_belong_to_no_job_or_to_one_that_exists(stage: BlockStage, key: str) -> None:
    index = stage.job_of_key(key)
    assert index is None or 0 <= index < stage.n_jobs


@pytest.mark.parametrize("key", ["zarr.json", "c/0", "c/9/0", "c/0/9", "7/c/0/0", "c/-1/0", "c/0/0.tmp"])
def test_keys_that_are_no_tile_of_the_stage(key: str) -> None:
    out = MatrixRef(URL, "zarr", (30, 30), "float64", (10, 10), is_ours=True)
    a = Operand(matrix("a", (30, 30), "zarr"))
    stage = GemmStage(
        name="s", phase="compute", out=out, block=(10, 10), a=a, b=a, panel_k=4, product_dtype="float64", n_splits=2, split_k=15
    )
    assert stage.job_of_key(key) is None


@given(st.integers(1, 20), st.integers(1, 20))
def test_serpentine_goes_to_neighbours_and_back(rows: int, cols: int) -> None:
    blocks = Grid((rows, cols), (1, 1))
    path = [serpentine(index, blocks) for index in range(blocks.n_tiles)]
    assert [serpentine_index(i, j, blocks) for i, j in path] == list(range(blocks.n_tiles))
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(path))


@given(st.integers(0, 1000), st.integers(1, 300))
def test_bands_cover_the_rows_once(n_rows: int, band_rows: int) -> None:
    template = Check(matrix("r", (n_rows, 7), "zarr"), Rect(0, n_rows, 0, 7), "")
    base: dict[str, Any] = {"name": "s", "n_rows": n_rows, "n_cols": 7, "band_rows": band_rows, "facts_url": URL}
    stages: list[ExportStage | ProjectStage | CheckStage] = [
        ExportStage(**base, phase="export", source=template.result, format="csv"),
        ProjectStage(**base, phase="verify", b=Operand(template.result), seed=1, n_vectors=2, product_dtype="float64"),
        CheckStage(**base, phase="verify", template=template),
    ]
    for stage in stages:
        rects = [stage.rect(index) for index in range(stage.n_jobs)]
        assert [row for rect in rects for row in range(rect.row0, rect.row1)] == list(range(n_rows))
        for index in range(stage.n_jobs):
            work = stage.work(index)
            assert isinstance(work, Export | Project | Check)
            url = work.part_url if isinstance(work, Export) else work.facts_url
            assert (work.rect, stage.job_of_key(url.removeprefix(f"{URL}/"))) == (rects[index], index)


@given(st.integers(0, 10_000), st.integers(1, 3000))
def test_scans_cover_the_bytes_once(size: int, range_bytes: int) -> None:
    source = MatrixRef("s3://data/a.csv", "csv", size_bytes=size)
    stage = ScanStage(
        name="s", phase="ingest", source=source, size_bytes=size, range_bytes=range_bytes, piece_bytes=10, facts_url=URL
    )
    works = [stage.work(index) for index in range(stage.n_jobs)]
    ends = [(work.byte0, work.byte1) for work in works if isinstance(work, ScanCsv)]
    assert ends[0][0] == 0
    assert ends[-1][1] == size
    assert all(before[1] == after[0] for before, after in pairwise(ends))


def test_stages_of_one_job() -> None:
    publish = Publish(matrix("a", (3, 3), "zarr"), OP)
    stages: tuple[Stage, ...] = (
        PublishStage(name="p", phase="commit", publish=publish, facts_url=URL),
        GunzipStage(name="g", phase="ingest", source=publish.out, out=publish.out, facts_url=URL),
    )
    for stage in stages:
        assert (stage.n_jobs, stage.n_keys(0), stage.output_url) == (1, 1, URL)
        assert stage.job_of_key(layout.indexed("x", 0)) == 0
        assert stage.work(0) == stage.work(0)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(["zarr", "npy", "csv.gz"]), st.sampled_from([None, "zarr", "npy", "csv.gz"]))
def test_plans_survive_the_store_exactly(kind: str, form: str, out: str | None) -> None:
    made = record(kind, (form, form), output(out, "file:///data"))  # type: ignore[arg-type]
    for one in plan_all(made):
        assert from_json(to_json(one), Plan, "there") == one


def test_plans_of_verifications_survive_the_store_exactly() -> None:
    for kind in KINDS:
        made = record(kind)
        shape = (800, 1000) if kind == "transpose" else (1000, 800)
        for one in plan_all(verification(made, shape)):
            assert from_json(to_json(one), Plan, "there") == one


def test_parse_jobs_know_their_bytes() -> None:
    (stage, *_) = plan_all(record("convert", ("csv", "csv"), m=2_000_000, n=10), m=2_000_000, n=10)[-1].stages
    assert isinstance(stage, ParseStage)
    assert stage.n_jobs > 1
    assert len(stage.byte0) == len(stage.byte1) == len(stage.skip_rows) == stage.n_jobs
    assert stage.byte0[0] == 0
    assert stage.byte1[-1] == 2_000_000 * 10 * 8
    assert list(stage.byte0) == sorted(stage.byte0)
