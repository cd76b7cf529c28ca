"""Plans of every kind of operation, from every format to every format, near and far."""

from __future__ import annotations

import re
from itertools import product as pairs
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coordinator.core.cost import FleetFacts, choose_block
from coordinator.core.plans import Known, Plan, Settings, join_scans, next_part, operands, plan
from coordinator.core.stages import BlockStage, ElementwiseStage, ExportStage, ParseStage, PublishStage, Stage
from tests.unit.coordinator.examples import (
    FLEET,
    FORMS,
    KINDS,
    OP,
    OUTS,
    SETTINGS,
    STORE,
    lengths,
    matrix,
    output,
    plan_all,
    record,
    verification,
)
from tilefleet.errors import BadInput, DoesNotFit
from tilefleet.facts import CsvFacts
from tilefleet.footprint import peak_bytes
from tilefleet.matrix import MatrixRef, Operand, Rect, ceil_div, default_tile
from tilefleet.messages import Elementwise, Gunzip, Publish, Random
from tilefleet.quantities import parse_bytes
from tilefleet.records import Kind, OperationRecord

PLACES = ("s3://data", "file:///data")
EVERYTHING = [
    (kind, form, out, at) for kind, form, out, at in pairs(KINDS, FORMS, OUTS, PLACES) if kind != "random" or form == "zarr"
]


def stages_of(plans: list[Plan]) -> list[Stage]:
    return [stage for one in plans for stage in one.stages]


def written(stage: Stage) -> set[str]:
    """Where the jobs of a stage write."""
    work = stage.work(0)
    if isinstance(work, Gunzip):
        return {work.out.url, stage.output_url}
    return {work.out.url, stage.output_url} if isinstance(work, Publish) else {stage.output_url}


def is_sound(made: OperationRecord, plans: list[Plan]) -> None:
    """Raises AssertionError for a plan that breaks a rule of planning."""
    for one in plans:
        before: set[str] = set()
        for stage in one.stages:
            assert stage.name not in before, "stages have names of their own"
            assert set(stage.after) <= before, f"{stage.name} waits for {stage.after}, which are not before it"
            before.add(stage.name)
            assert stage.job_s > 0 or not isinstance(stage, BlockStage)
    for stage in stages_of(plans):
        jobs = {0, stage.n_jobs // 2, stage.n_jobs - 1} if stage.n_jobs else set()
        for index in jobs:
            assert peak_bytes(stage.work(index)) <= stage.peak_bytes, (stage.name, index)
        for url, source in pairs(written(stage) if stage.n_jobs else set(), operands(made).values()):
            assert not f"{url}/".startswith(f"{source.url}/"), f"{stage.name} writes into its input {source.url}"
            assert not f"{source.url}/".startswith(f"{url}/"), f"{stage.name} writes over its input {source.url}"


@pytest.mark.parametrize(("kind", "form", "out", "at"), EVERYTHING)
def test_every_operation_is_planned_soundly(kind: Kind, form: str, out: str | None, at: str) -> None:
    made = record(kind, (form, form), output(out, at), at=at)
    plans = plan_all(made)
    is_sound(made, plans)
    assert plan_all(made) == plans, "planning is deterministic"
    parts = {"csv": ["scan", "main"], "csv.gz": ["gunzip", "scan", "main"]}.get(form if kind != "random" else "", ["main"])
    assert [one.part for one in plans] == parts
    main = plans[-1]
    assert isinstance(main.stages[-1], PublishStage)
    assert main.result is not None
    assert main.result.shape == ((800, 1000) if kind == "transpose" else (1000, 800))
    assert main.result.url == (made.out.url or f"{STORE}/matrices/{OP}")
    assert main.predicted_s > 0
    assert all(stage.peak_bytes <= FLEET.job_bytes for stage in stages_of(plans))
    last = main.stages[-2] if len(main.stages) > 1 else None
    assert isinstance(last, ExportStage) == (out in ("npy", "csv", "csv.gz"))
    if at.startswith("file:") and out == "zarr" and isinstance(last, BlockStage):
        assert last.out.url == f"file:///data/.out.zarr.partial-{OP}", "a local array appears by a rename"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["zarr", "npy", "csv", "csv.gz", "foreign"])
def test_every_result_can_be_verified(kind: Kind, form: str) -> None:
    made = verification(record(kind, (form, form)), (800, 1000) if kind == "transpose" else (1000, 800))
    plans = plan_all(made)
    is_sound(made, plans)
    names = [stage.name for stage in plans[-1].stages]
    assert names[-1] == "check"
    assert ("project" in names) == (kind == "multiply")
    assert plans[-1].result is None
    if "project" in names:
        assert "project" in plans[-1].stages[-1].after


def test_addition_with_csv_waits_for_both_parses() -> None:
    made = record("add", ("csv", "csv.gz"))
    gunzip, scan, main = plan_all(made)
    assert [stage.name for stage in gunzip.stages] == ["gunzip_b"]
    assert [stage.name for stage in scan.stages] == ["scan_a", "scan_b"]
    assert [stage.name for stage in main.stages] == ["parse_a", "parse_b", "add", "publish"]
    assert main.stages[2].after == ("parse_a", "parse_b")


def _sum_of_tiles(
    *tiles: tuple[int, int], n: int = 8192, is_transposed: bool = False, tile: tuple[int, int] | None = None
) -> ElementwiseStage:
    """The stage of a sum of two n × n whose operands have these tiles."""
    made = record("add", out=output("zarr", "file:///data"), m=n, n=n, at="file:///data", tile=tile)
    a, b = (
        Operand(msgspec.structs.replace(operand.matrix, tile=tile), is_transposed)
        for operand, tile in zip((made.a, made.b), tiles, strict=True)
        if operand is not None
    )
    (stage,) = (s for s in plan_all(msgspec.structs.replace(made, a=a, b=b))[-1].stages if isinstance(s, ElementwiseStage))
    return stage


def test_a_sum_has_the_tiles_of_its_operands_if_they_are_alike_and_of_a_useful_size() -> None:
    assert _sum_of_tiles((2048, 2048), (2048, 2048)).out.tile == (2048, 2048)
    default = default_tile((8192, 8192), 8)
    for tiles in (((2048, 2048), (2048, 1024)), ((128, 128), (128, 128)), ((8192, 8192),) * 2, ((16384, 64),) * 2):
        assert _sum_of_tiles(*tiles).out.tile == default
    assert _sum_of_tiles((2048, 2048), (2048, 2048), is_transposed=True).out.tile == default
    assert _sum_of_tiles((2048, 2048), (2048, 2048), tile=(512, 512)).out.tile == (512, 512)


def test_a_sum_of_tiles_that_lie_alike_takes_the_memory_of_one_tile_of_each() -> None:
    alike, apart = _sum_of_tiles(*((2048, 2048),) * 2, n=16384), _sum_of_tiles((2048, 2048), (2048, 1024))
    assert alike.block[1] > 2048
    assert alike.peak_bytes < 5 * 2048 * 2048 * 8
    assert apart.peak_bytes > 3 * apart.block[0] * apart.block[1] * 8


@pytest.mark.parametrize(("bytes_per_s", "n_jobs"), [(1e8, 16), (5e8, 8), (4e9, 4)])
def test_short_jobs_are_fewer_and_none_is_long(bytes_per_s: float, n_jobs: int) -> None:
    out = MatrixRef("file:///out.zarr", "zarr", (8192, 8192), "float64", (2048, 2048))
    fleet = FleetFacts(n_workers=2, memory_bytes=1 << 30, bytes_per_s=bytes_per_s)
    block, _ = choose_block(out, lambda rect: Random(out, Rect(0, 1, 0, 1), "0", "1", 1), fleet, n_read=2)
    assert ceil_div(8192, block[0]) * ceil_div(8192, block[1]) == n_jobs


def test_a_matrix_that_stands_twice_is_read_once() -> None:
    made = record("add", ("csv", "csv"))
    made = msgspec.structs.replace(made, b=made.a)
    names = [stage.name for stage in stages_of(plan_all(made))]
    assert names == ["scan_a", "parse_a", "add", "publish"]


def test_npy_in_s3_becomes_tiles_before_a_product_and_only_then() -> None:
    names = [stage.name for stage in stages_of(plan_all(record("multiply", ("npy", "npy"))))]
    assert names == ["ingest_a", "ingest_b", "multiply", "publish"]
    assert [s.name for s in stages_of(plan_all(record("multiply", ("npy", "npy"), at="file:///data")))] == ["multiply", "publish"]
    assert [s.name for s in stages_of(plan_all(record("add", ("npy", "npy"))))] == ["add", "publish"]


def test_a_parsed_csv_is_the_array_and_no_copy_of_it() -> None:
    (*_, main) = plan_all(record("convert", ("csv", ""), output("zarr", "s3://data")))
    parse, publish = main.stages
    assert isinstance(parse, ParseStage)
    assert parse.out.url == "s3://data/out.zarr"
    assert publish.after == ("parse_a",)


def test_a_cast_or_a_transpose_on_the_way_is_not_left_out() -> None:
    choices: tuple[dict[str, Any], ...] = ({"dtype": "float32"}, {})
    for more in choices:
        for form, out in pairs(("csv", "npy", "zarr"), ("zarr", "npy", "csv")):
            made = record("convert", (form, ""), output(out, "s3://data"), **more)
            assert made.a is not None
            if not more:
                made = msgspec.structs.replace(made, a=Operand(made.a.matrix, is_transposed=True))
            main = plan_all(made)[-1]
            computing = [stage for stage in main.stages if isinstance(stage, ElementwiseStage) and stage.name == "convert"]
            assert len(computing) == 1, (form, out, more)
            work = computing[0].work(0)
            assert isinstance(work, Elementwise)
            assert work.out.dtype == more.get("dtype", "float64")
            assert work.terms[0].operand.is_transposed == (not more)
            assert main.result is not None
            assert main.result.shape == ((1000, 800) if more else (800, 1000))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1), (1, 3000), (3000, 1)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("out", [None, "zarr", "npy", "csv"])
def test_empty_and_thin_matrices(shape: tuple[int, int], kind: Kind, out: str | None) -> None:
    m, n = shape
    made = record(kind, ("zarr", "npy"), output(out, "s3://data"), m=m, n=n, k=1)
    plans = plan_all(made, m=m, n=n, k=1)
    is_sound(made, plans)
    counts = {stage.name: stage.n_jobs for stage in stages_of(plans)}
    assert counts.pop("publish") == 1
    if m * n == 0:
        assert not any(count for name, count in counts.items() if not name.startswith(("ingest", "export")))
    else:
        assert all(counts.values())


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(KINDS), st.sampled_from(FORMS), st.sampled_from(OUTS), st.sampled_from(PLACES),
    st.tuples(lengths, lengths, lengths), st.integers(1, 64), st.integers(1 << 20, 1 << 31),
)  # fmt: skip
def test_a_plan_fits_the_workers_or_says_how_much_memory_would_do(
    kind: Kind, form: str, out: str | None, at: str, mkn: tuple[int, int, int], n_workers: int, memory: int
) -> None:
    m, k, n = mkn
    fleet = FleetFacts(n_workers=n_workers, memory_bytes=memory)
    made = record(kind, (form, form), output(out, at), m=m, k=k, n=n, at=at)
    for _ in range(4):  # a part at a time: scanning may need less than what follows it
        try:
            plans = plan_all(made, fleet, m=m, k=k, n=n)
            break
        except DoesNotFit as error:
            fleet = msgspec.structs.replace(fleet, memory_bytes=named(error))
    is_sound(made, plans)
    for stage in stages_of(plans):
        assert stage.peak_bytes <= (fleet.memory_bytes if stage.n_jobs <= 1 else fleet.job_bytes)


def named(error: DoesNotFit) -> int:
    """The memory that the sentence says would do."""
    found = re.search(r"needs ([0-9.]+ [KMGT]?i?B) of data memory", str(error))
    assert found is not None, str(error)
    return parse_bytes(found[1])


def test_too_little_memory_is_said_once_and_the_named_memory_is_enough() -> None:
    for kind, form, out in pairs(KINDS, ("zarr", "foreign"), (None, "npy", "csv")):
        made = record(kind, (form, form), output(out, "s3://data"), m=6000, k=6000, n=6000)
        fleet = FleetFacts(n_workers=2, memory_bytes=8 << 20)
        with pytest.raises(DoesNotFit, match=r"the smallest has 8\.0 MiB; raise worker\.memory") as caught:
            plan("main", made, Known(), fleet, SETTINGS)
        enough = named(caught.value)
        plan("main", made, Known(), msgspec.structs.replace(fleet, memory_bytes=enough), SETTINGS)
        with pytest.raises(DoesNotFit):
            plan("main", made, Known(), msgspec.structs.replace(fleet, memory_bytes=enough * 8 // 10), SETTINGS)


def test_foreign_chunks_that_are_huge_are_said_to_need_memory() -> None:
    made = record("scale", ("foreign", ""), m=20_000, n=20_000)
    assert made.a is not None
    whole = msgspec.structs.replace(made.a.matrix, tile=(20_000, 20_000))
    made = msgspec.structs.replace(made, a=Operand(whole))
    with pytest.raises(DoesNotFit) as caught:
        plan("main", made, Known(), FLEET, SETTINGS)
    assert named(caught.value) > 2 * 20_000**2 * 8


@given(st.integers(1, 400), st.integers(1, 30))
def test_bands_of_a_csv_hold_every_row(m: int, n: int) -> None:
    made = record("convert", ("csv", ""), m=m * 1000, n=n)
    (stage, *_) = plan_all(made, m=m * 1000, n=n)[-1].stages
    assert isinstance(stage, ParseStage)
    assert sum(stage.rect(index).rows for index in range(stage.n_jobs)) == m * 1000


def test_ragged_and_empty_csvs_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"/x\.csv.*3 fields where the rows before have 2"):
        join_scans([CsvFacts((4,), 2, "int64"), CsvFacts((4,), 3, "int64")], "file:///data/x.csv")
    with pytest.raises(BadInput, match=r"/x\.csv"):
        join_scans([CsvFacts((0,), 0, "int64")], "file:///data/x.csv")


def test_shapes_that_turn_out_not_to_go_together_are_refused_after_the_scan() -> None:
    made = record("add", ("csv", "zarr"))
    with pytest.raises(BadInput, match="equal shapes"):
        plan_all(msgspec.structs.replace(made, b=Operand(matrix("b", (7, 7), "zarr"))))


@pytest.mark.parametrize("kind", ["multiply", "random", "convert", "verify"])
def test_a_record_without_what_its_kind_needs_is_refused(kind: Kind) -> None:
    with pytest.raises(BadInput):
        plan("main", OperationRecord(OP, kind), Known(), FLEET, SETTINGS)


def test_parts_follow_from_the_operands() -> None:
    made = record("add", ("csv.gz", "zarr"))
    assert next_part(made, frozenset()) == "gunzip"
    assert next_part(made, frozenset({"gunzip"})) == "scan"
    assert next_part(made, frozenset({"gunzip", "scan"})) == "main"
    assert next_part(made, frozenset({"gunzip", "scan", "main"})) is None


def test_scans_are_spread_over_the_workers() -> None:
    made = record("convert", ("csv", ""), m=4_000_000, n=10)
    (scan,) = plan_all(made, FLEET, Settings(STORE), m=4_000_000, n=10)[0].stages
    assert scan.n_jobs >= 2 * FLEET.n_workers


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5_000_000), st.integers(1, 200))
def test_export_bands_are_of_a_size(m: int, n: int) -> None:
    assume(m * n < 10**9)
    made = record("random", out=output("csv", "s3://data"), m=m, n=n)
    export = next(stage for stage in plan_all(made)[0].stages if isinstance(stage, ExportStage))
    assert export.n_jobs <= 10_000, "S3 takes at most that many parts"
    assert export.band_rows * n * 8 <= 2 * 32 * 2**20 or export.band_rows <= 256
