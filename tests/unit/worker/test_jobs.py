"""Every kind of job against NumPy, over a directory store: shapes, types, edges, transposes, epilogues, repetitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from tests.unit.worker.conftest import OPERATION, Bench
from tilefleet.errors import AlreadyExists, BadInput, Cancelled, NotAllowed, NotFound
from tilefleet.facts import BytesFact, CheckFacts, CsvFacts
from tilefleet.inspection import inspect
from tilefleet.matrix import Grid, MatrixRef, Operand, Rect
from tilefleet.messages import (
    Check,
    Elementwise,
    Epilogue,
    Export,
    Gemm,
    Gunzip,
    ParseCsv,
    Project,
    Publish,
    Random,
    Reduce,
    ScanCsv,
    Syrk,
    Term,
)
from tilefleet.store import file_url
from workerd.context import Outcome
from workerd.jobs import elementwise as elementwise_job

Sample = Callable[..., np.ndarray]


def blocks(shape: tuple[int, int], block: tuple[int, int]) -> list[Rect]:
    grid = Grid(shape, block)
    return [grid.rect(i, j) for i in range(grid.n_rows) for j in range(grid.n_cols)]


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.kind in "fc":
        tolerance = 1e-4 if found.dtype.itemsize // (2 if found.dtype.kind == "c" else 1) == 4 else 1e-12
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * 100)
    else:
        np.testing.assert_array_equal(found, expected)


async def multiply(bench: Bench, a: Operand, b: Operand, epilogue: Epilogue | None, dtype: str, product_dtype: str) -> MatrixRef:
    out = bench.ref("out", (a.shape[0], b.shape[1]), dtype, (20, 24))
    for index, rect in enumerate(blocks(out.grid.shape, (40, 48))):
        outcome = await bench.run(Gemm(a, b, out, rect, 0, a.shape[1], 17, product_dtype, epilogue), index)
        assert outcome.check_worst is not None and 0 <= outcome.check_worst < 1
    return out


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "int64", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize(("is_a_transposed", "is_b_transposed"), [(False, False), (True, False), (False, True), (True, True)])
async def test_gemm(bench: Bench, sample: Sample, dtype: str, is_a_transposed: bool, is_b_transposed: bool) -> None:
    x, y = sample((70, 53), dtype, 1), sample((53, 61), dtype, 2)
    a = await bench.put("a", x, is_transposed=is_a_transposed)
    b = await bench.put("b", y, is_transposed=is_b_transposed)
    agree(await bench.get(await multiply(bench, a, b, None, dtype, dtype)), x @ y)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32", "complex128"])
@pytest.mark.parametrize("is_a_transposed", [False, True])
async def test_a_symmetric_product_is_computed_above_the_diagonal_and_is_symmetric_to_the_bit(
    bench: Bench, sample: Sample, dtype: str, is_a_transposed: bool
) -> None:
    x = sample((70, 53), dtype, 1)
    a = msgspec.structs.replace(await bench.put("a", x), is_transposed=is_a_transposed)
    b = msgspec.structs.replace(a, is_transposed=not is_a_transposed)
    n, k = a.shape
    out = bench.ref("out", (n, n), dtype, (20, 20))
    above = [rect for rect in blocks((n, n), (40, 40)) if rect.row0 <= rect.col0]
    for index, rect in enumerate(above):
        work = Syrk(a, b, out, rect, 0, k, 17, dtype)
        outcome = await bench.run(work, index)
        assert outcome.check_worst is not None
        assert await bench.run(work, index) == Outcome()  # its tiles are there, on both sides of the diagonal
    found = await bench.get(out)
    agree(found, x.T @ x if is_a_transposed else x @ x.T)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize(
    ("shape", "other"), [((1, 50), (50, 1)), ((50, 1), (1, 50)), ((1, 1), (1, 1)), ((5, 0), (0, 7)), ((100, 3), (3, 2))]
)
async def test_gemm_of_thin_and_empty_matrices(
    bench: Bench, sample: Sample, shape: tuple[int, int], other: tuple[int, int]
) -> None:
    x, y = sample(shape, "int32", 1), sample(other, "int32", 2)
    a, b = await bench.put("a", x), await bench.put("b", y)
    agree(await bench.get(await multiply(bench, a, b, None, "int32", "int32")), x @ y)


async def test_gemm_mixes_types_and_applies_the_epilogue_step_by_step(bench: Bench, sample: Sample) -> None:
    x, y, z = sample((45, 30), "int16", 1), sample((30, 50), "uint8", 2), sample((45, 50), "float32", 3)
    a, b, c = await bench.put("a", x), await bench.put("b", y), await bench.put("c", z, is_transposed=True)
    expected = 3 * (x @ y) + 0.5 * z
    out = await multiply(bench, a, b, Epilogue("3", "0.5", c), expected.dtype.name, "int16")
    agree(await bench.get(out), expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float64"])
async def test_split_k_and_reduce(bench: Bench, sample: Sample, dtype: str) -> None:
    x, y, z = sample((30, 100), dtype, 1), sample((100, 20), dtype, 2), sample((30, 20), dtype, 3)
    a, b, c = await bench.put("a", x), await bench.put("b", y), await bench.put("c", z)
    parts, whole = bench.ref("partial", (30, 20), dtype, (16, 16)), Rect(0, 30, 0, 20)
    for p, k0 in enumerate(range(0, 100, 40)):
        part = msgspec.structs.replace(parts, url=f"{parts.url}/{p}")
        await bench.run(Gemm(a, b, part, whole, k0, min(100, k0 + 40), 16, dtype), p)
    out = bench.ref("out", (30, 20), dtype, (16, 16))
    for index, rect in enumerate(blocks((30, 20), (16, 32))):
        await bench.run(Reduce(parts, 3, out, rect, Epilogue(c=c)), index)
    agree(await bench.get(out), x @ y + z)


@pytest.mark.parametrize("is_subtraction", [False, True])
async def test_elementwise(bench: Bench, sample: Sample, is_subtraction: bool) -> None:
    x, y = sample((70, 40), "int32", 1), sample((70, 40), "float32", 2)
    terms = (Term(await _bare(bench, "x", x, True), "2"), Term(await _bare(bench, "y", y, False)))
    expected = 2 * x - y if is_subtraction else 2 * x + y
    out = bench.ref("out", (70, 40), expected.dtype.name, (25, 25))
    for index, rect in enumerate(blocks((70, 40), (50, 25))):
        await bench.run(Elementwise(terms, out, rect, is_subtraction), index)
    agree(await bench.get(out), expected)


async def _bare(bench: Bench, name: str, array: np.ndarray, is_transposed: bool) -> Operand:
    return await bench.put(name, array, is_transposed=is_transposed)


@pytest.mark.parametrize("band_bytes", [1, 1000, 2**19])
async def test_elementwise_of_tiles_that_lie_alike(
    bench: Bench, sample: Sample, monkeypatch: pytest.MonkeyPatch, band_bytes: int
) -> None:
    monkeypatch.setattr(elementwise_job, "BAND_BYTES", band_bytes)
    x, y = sample((70, 100), "int32", 1), sample((70, 100), "float32", 2)
    terms = (Term(await bench.put("x", x), "2"), Term(await bench.put("y", y)))
    out = bench.ref("out", (70, 100), "float64")
    halves = [Rect(0, 32, 0, 48), Rect(0, 70, 0, 100)]  # the second finds some tiles there, the last all
    for index, rect in enumerate([*halves, *blocks((70, 100), (64, 48)), Rect(0, 70, 0, 100)]):
        await bench.run(Elementwise(terms, out, rect, is_subtraction=True), index)
    agree(await bench.get(out), 2 * x - y)


async def test_elementwise_writes_no_tile_of_a_damaged_one(bench: Bench, sample: Sample) -> None:
    x, y = await bench.put("x", sample((70, 40), "float64", 1)), await bench.put("y", sample((70, 40), "float64", 2))
    damaged = bench.directory / "store" / "y" / "c" / "1" / "0"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    out = bench.ref("out", (70, 40), "float64")
    with pytest.raises(BadInput, match="y/c/1/0 is damaged"):
        await bench.run(Elementwise((Term(x), Term(y)), out, Rect(0, 70, 0, 40)))
    tiles = bench.directory / "store" / "out" / "c"
    assert [str(path.relative_to(tiles)) for path in tiles.rglob("*") if path.is_file()] == ["0/0"]


async def test_elementwise_of_a_missing_tile(bench: Bench, sample: Sample) -> None:
    x, y = sample((70, 40), "float64", 1), sample((70, 40), "float64", 2)
    mine, other = await bench.put("x", x), await bench.put("y", y)
    (bench.directory / "store" / "y" / "c" / "2" / "0").unlink()
    with pytest.raises(NotFound, match="tile"):
        await bench.run(Elementwise((Term(mine), Term(other)), bench.ref("out", (70, 40), "float64"), Rect(0, 70, 0, 40)))
    foreign = Term(Operand(msgspec.structs.replace(other.matrix, is_ours=False, fill_value="7")))
    out = bench.ref("filled", (70, 40), "float64")
    await bench.run(Elementwise((Term(mine), foreign), out, Rect(0, 70, 0, 40)))
    y[64:] = 7
    agree(await bench.get(out), x + y)


async def test_elementwise_copies_into_another_type(bench: Bench, sample: Sample) -> None:
    x = sample((10, 12), "int8")
    out = bench.ref("out", (10, 12), "float64")
    await bench.run(Elementwise((Term(await bench.put("x", x)),), out, Rect(0, 10, 0, 12)))
    agree(await bench.get(out), x.astype(np.float64))
    narrow = bench.ref("narrow", (10, 12), "int16")
    await bench.run(Elementwise((Term(Operand(out), "0.5"),), narrow, Rect(0, 10, 0, 12)), 1)
    agree(await bench.get(narrow), (0.5 * x).astype(np.int16))


async def test_random_does_not_depend_on_the_blocks(bench: Bench) -> None:
    fine, coarse = bench.ref("fine", (300, 600), "int32", (64, 100)), bench.ref("coarse", (300, 600), "int32", (300, 600))
    for index, rect in enumerate(blocks((300, 600), (128, 300))):
        await bench.run(Random(fine, rect, "-5", "10", 42), index)
    await bench.run(Random(coarse, Rect(0, 300, 0, 600), "-5", "10", 42))
    found = await bench.get(fine)
    np.testing.assert_array_equal(found, await bench.get(coarse))
    assert (int(found.min()), int(found.max())) == (-5, 9)


async def test_csv_from_gzip_to_tiles(bench: Bench, sample: Sample) -> None:
    import gzip

    x = sample((500, 7), "int64")
    text = "\n".join(",".join(map(str, row)) for row in x.tolist()).encode()  # no newline at the end
    await bench.store.put("in.csv.gz", gzip.compress(text))
    source = MatrixRef(f"{bench.url}/in.csv.gz", "csv", is_gzip=True, size_bytes=len(gzip.compress(text)))
    plain = MatrixRef(f"{bench.url}/operations/{OPERATION}/input/a.csv", "csv", size_bytes=len(text))
    assert (await bench.run(Gunzip(source, plain), stage="gunzip_a")).facts == BytesFact(len(text))
    assert (await bench.run(Gunzip(source, plain), stage="gunzip_a")).facts == BytesFact(len(text))

    half = len(text) // 2
    scans = [ScanCsv(plain, *piece, 4096, f"{bench.url}/facts/{n}") for n, piece in enumerate(((0, half), (half, len(text))))]
    facts = [(await bench.run(scan, n)).facts for n, scan in enumerate(scans)]
    assert all(isinstance(fact, CsvFacts) and (fact.cols, fact.dtype) == (7, "int64") for fact in facts)
    rows = [sum(fact.rows) for fact in facts if isinstance(fact, CsvFacts)]
    assert sum(rows) == 500
    assert (await bench.run(scans[0])).facts == facts[0]

    out = bench.ref("out", (500, 7), "int64", (100, 7))
    await bench.run(ParseCsv(plain, out, Rect(0, 200, 0, 7), 0, half, 0))
    await bench.run(ParseCsv(plain, out, Rect(200, 500, 0, 7), 0, len(text), 200))
    agree(await bench.get(out), x)


async def test_bad_csv_names_the_place(bench: Bench) -> None:
    await bench.store.put("bad.csv", b"1,2\n3,x\n")
    source = MatrixRef(f"{bench.url}/bad.csv", "csv", size_bytes=8)
    with pytest.raises(BadInput, match=r"bad\.csv, line 2, column 2: 'x'"):
        await bench.run(ScanCsv(source, 0, 8, 4096, f"{bench.url}/facts/0"))


@pytest.mark.parametrize(("form", "is_gzip"), [("npy", False), ("csv", False), ("csv", True)])
async def test_export_and_publish_a_file(bench: Bench, sample: Sample, form: str, is_gzip: bool) -> None:
    x = sample((50, 6), "float64")
    source = (await bench.put("x", x)).matrix
    parts = f"{bench.url}/operations/{OPERATION}/parts"
    for index, rect in enumerate(blocks((50, 6), (20, 6))):
        work = Export(source, rect, "npy" if form == "npy" else "csv", f"{parts}/{index:08d}")
        first, again = await bench.run(work, index), await bench.run(work, index)
        assert first.facts == again.facts
    name = f"out.{form}" + (".gz" if is_gzip else "")
    ref = MatrixRef(f"{bench.url}/{name}", "npy" if form == "npy" else "csv", (50, 6), "float64", is_gzip=is_gzip)
    publish = Publish(ref, OPERATION, parts, 3)
    first, again = await bench.run(publish, stage="publish"), await bench.run(publish, stage="publish")
    assert first.facts == again.facts
    path = bench.directory / "store" / name
    found = np.load(path, allow_pickle=False) if form == "npy" else np.loadtxt(path, delimiter=",")
    np.testing.assert_array_equal(found, x)
    assert not list(path.parent.glob(".*"))
    with pytest.raises(AlreadyExists):
        await bench.run(Publish(msgspec.structs.replace(ref, url=source.url), OPERATION, parts, 3), stage="other")


async def test_publish_moves_a_staged_array_to_its_name(bench: Bench, sample: Sample) -> None:
    x, out = sample((50, 60), "float32"), bench.ref("out.zarr", (50, 60), "float32")
    staged = (await bench.put(f".out.zarr.partial-{OPERATION}", x)).matrix
    publish = Publish(out, OPERATION, staged_url=staged.url)
    await bench.run(publish, stage="publish")
    agree(await bench.get(out), x)
    await bench.store.delete([f"operations/{OPERATION}/facts/publish/00000000"])  # died between the rename and the mark
    await bench.run(publish, stage="publish")
    agree(await bench.get(out), x)
    assert not list((bench.directory / "store").glob(".*"))


async def test_publish_never_moves_anything_but_its_staged_array(bench: Bench, sample: Sample) -> None:
    operand = (await bench.put("operand.zarr", sample((5, 6), "float32"))).matrix
    with pytest.raises(BadInput, match="not the staged form"):
        await bench.run(Publish(bench.ref("out.zarr", (5, 6), "float32"), OPERATION, staged_url=operand.url))
    assert (bench.directory / "store" / "operand.zarr").exists()


@pytest.mark.parametrize("dtype", ["bool", "int16", "float64"])
@pytest.mark.parametrize("has_epilogue", [False, True])
async def test_verify_a_product(bench: Bench, sample: Sample, dtype: str, has_epilogue: bool) -> None:
    x, y, z = sample((40, 90), dtype, 1), sample((90, 30), dtype, 2), sample((40, 30), dtype, 3)
    if dtype == "float64":
        x[3, 4] = np.nan  # rows that no projection can judge are computed again
    a, b = await bench.put("a", x, is_transposed=True), await bench.put("b", y, is_transposed=True)
    epilogue = Epilogue(None, None, await bench.put("c", z)) if has_epilogue else None
    expected = x @ y + z if has_epilogue else x @ y
    wrong = expected.copy()
    wrong[33, 7] = not wrong[33, 7] if dtype == "bool" else wrong[33, 7] + 1
    for name, result, n_wrong in (("good", expected, 0), ("wrong", wrong, 1)):
        out = (await bench.put(name, result)).matrix
        product = Gemm(a, b, out, Rect(0, 40, 0, 30), 0, 90, 16, dtype, epilogue)
        projections = f"{bench.url}/{name}-projections"
        for index, rect in enumerate(blocks((90, 30), (50, 30))):
            await bench.run(Project(b, rect, 5, 2, dtype, f"{projections}/{index:08d}"), index)
        found = []
        for index, rect in enumerate(blocks((40, 30), (25, 30))):
            check = Check(out, rect, f"{bench.url}/{name}-facts/{index}", 5, 2, product, projections, 50, 2)
            facts = (await bench.run(check, index)).facts
            assert isinstance(facts, CheckFacts) and (await bench.run(check, index)).facts == facts
            found.append(facts)
        assert [facts.mismatches for facts in found] == [0, n_wrong]
        assert found[1].first_row == (33 if n_wrong else -1)
        assert (max(facts.worst for facts in found) > 1) == bool(n_wrong)


async def test_verify_a_sum_and_a_random_matrix(bench: Bench, sample: Sample) -> None:
    x, y = sample((40, 30), "float32", 1), sample((40, 30), "float32", 2)
    terms = (Term(await bench.put("x", x)), Term(await bench.put("y", y), "3"))
    out, whole = (await bench.put("sum", x + 3 * y)).matrix, Rect(0, 40, 0, 30)
    again = Elementwise(terms, out, whole)
    assert (await bench.run(Check(out, whole, f"{bench.url}/facts/0", elementwise=again))).facts == CheckFacts()
    wrong = (await bench.put("wrong", x + 4 * y)).matrix
    work = Check(wrong, Rect(20, 40, 0, 30), f"{bench.url}/facts/1", elementwise=msgspec.structs.replace(again, out=wrong))
    facts = (await bench.run(work)).facts
    assert facts == CheckFacts(math.inf, 600, 20)

    random = Random(bench.ref("random", (40, 30), "int64"), whole, "0", "9", 3)
    await bench.run(random)
    assert (await bench.run(Check(random.out, whole, f"{bench.url}/facts/2", random=random))).facts == CheckFacts()
    np.save(bench.directory / "store" / "random.npy", await bench.get(random.out))
    file = await inspect(bench.stores, f"{bench.url}/random.npy")
    assert (await bench.run(Check(file, whole, f"{bench.url}/facts/3", random=random))).facts == CheckFacts()


async def test_a_repeated_job_reads_nothing_and_changes_nothing(bench: Bench, sample: Sample) -> None:
    x = sample((64, 48), "float64")
    a, out = await bench.put("a", x), bench.ref("out", (64, 48), "float64")
    work = Elementwise((Term(a),), out, Rect(0, 64, 0, 48))
    await bench.run(work)
    await bench.store.delete_prefix("a")
    await bench.run(work)
    agree(await bench.get(out), x)
    await bench.store.delete(["out/c/1/0"])
    with pytest.raises(NotFound, match="tile"):
        await bench.run(work)


async def test_local_files_are_refused_unless_allowed(bench: Bench, sample: Sample) -> None:
    outside = bench.directory / "outside.npy"
    np.save(outside, sample((4, 4), "float64"))
    ref = MatrixRef(file_url(outside), "npy", (4, 4), "float64", size_bytes=outside.stat().st_size, data_offset_bytes=128)
    work = Elementwise((Term(Operand(ref)),), bench.ref("out", (4, 4), "float64"), Rect(0, 4, 0, 4))
    with pytest.raises(NotAllowed, match="may not touch local files"):
        await bench.run(work)
    sneaky = msgspec.structs.replace(ref, url=f"{bench.url}/../outside.npy")
    with pytest.raises(NotAllowed):
        await bench.run(Elementwise((Term(Operand(sneaky)),), work.out, work.rect))
    context = bench.context(work, allow_local_files=True)
    agree(np.array(await context.read(Operand(ref), work.rect)), np.load(outside))


async def test_a_cancelled_operation_stops_between_panels(bench: Bench, sample: Sample) -> None:
    a, out = await bench.put("a", sample((20, 20), "float64")), bench.ref("out", (20, 20), "float64")
    bench.cancelled.add(OPERATION)
    with pytest.raises(Cancelled):
        await bench.run(Gemm(a, a, out, Rect(0, 20, 0, 20), 0, 20, 5, "float64"))
    assert not (bench.directory / "store" / "out").exists()


def test_a_path_is_below_only_its_own_directory() -> None:
    from workerd.context import is_below

    assert is_below("file:///a/b/c", "file:///a/b")
    assert not is_below("file:///a/bc", "file:///a/b")
    assert not is_below("file:///a/b/../c", "file:///a/b")
    assert not is_below("file:///a/b/%2e%2e/c", "file:///a/b")
    assert not is_below("file:///a/b", "s3://bucket/a")
