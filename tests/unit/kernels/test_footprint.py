"""The kernels stay within what ``tilefleet.footprint`` promises; measured with tracemalloc, which sees NumPy's arrays."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from tests.unit.kernels.examples import full_range
from tilefleet.dtypes import parse_scalar
from tilefleet.footprint import PIECES_BYTES, peak_bytes
from tilefleet.formats import csv
from tilefleet.matrix import MatrixRef, Operand, Rect
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
    Term,
    Work,
)
from workerd.kernels import elementwise, verification
from workerd.kernels.product import BlockProduct
from workerd.kernels.randomness import random_block


def ref(shape: tuple[int, int], dtype: str, tile: tuple[int, int] = (512, 512), url: str = "file:///x") -> MatrixRef:
    return MatrixRef(url, "zarr", shape, dtype, tile)


def measured(run: Callable[[], object]) -> int:
    """Peak bytes that were allocated while it ran."""
    tracemalloc.start()
    try:
        result = run()
        del result
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def _no_tracing_left() -> Iterator[None]:
    yield
    assert not tracemalloc.is_tracing()


GEMMS = [
    (a, b, shape)
    for a, b in [("float64", "float64"), ("float32", "float64"), ("complex64", "float64"), ("int64", "int64"), ("int8", "int8"),
                 ("uint32", "int32"), ("uint64", "uint64"), ("bool", "bool"), ("int64", "float32")]
    for shape in [(400, 900, 500), (1500, 300, 16)]
]  # fmt: skip


@pytest.mark.parametrize(("a_dtype", "b_dtype", "shape"), GEMMS)
@pytest.mark.parametrize("content", ["full range", "small", "wild"])
def test_gemm(a_dtype: str, b_dtype: str, shape: tuple[int, int, int], content: str) -> None:
    (m, k, n), rng = shape, np.random.default_rng(0)
    panel_k = min(600, k)
    a, b = full_range(rng, (m, k), np.dtype(a_dtype)), full_range(rng, (k, n), np.dtype(b_dtype))
    for x in (a, b):
        if content == "small":
            x[...] = x.real > 0
        elif content == "wild" and x.dtype.kind in "fc":
            x[rng.random(x.shape) < 0.01] = np.nan
    dtype = np.result_type(a, b)
    alpha = "2" if dtype.kind != "b" else None
    c = full_range(rng, (m, n), dtype)
    epilogue = Epilogue(alpha, "3", Operand(ref((m, n), dtype.name)))
    out = ref((m, n), np.result_type(dtype, np.int64 if dtype.kind == "b" else dtype).name)
    work = Gemm(
        Operand(ref((m, k), a_dtype)), Operand(ref((k, n), b_dtype)), out, Rect(0, m, 0, n), 0, k, panel_k, dtype.name, epilogue
    )
    beta = parse_scalar("3")

    def run() -> np.ndarray:
        buffers = [(np.empty((m, panel_k), a.dtype), np.empty((panel_k, n), b.dtype)) for _ in range(2)]
        block = BlockProduct(m, n, k, a.dtype, b.dtype, dtype, 1)
        for k0 in range(0, k, panel_k):
            left, right = buffers[k0 // panel_k % 2]
            depth = min(panel_k, k - k0)
            left[:, :depth], right[:depth] = a[:, k0 : k0 + depth], b[k0 : k0 + depth]
            block.add(left[:, :depth], right[:depth])
        product, _ = block.finish()
        del block, buffers, left, right
        mine = c.copy()
        return elementwise.epilogue(product, None if alpha is None else parse_scalar(alpha), beta, mine)

    used = measured(run)
    assert used <= peak_bytes(work)
    assert peak_bytes(work) < 4 * used + 3 * PIECES_BYTES + 16 * 512 * 512 * 16 * 2  # and is not absurdly generous


def test_elementwise_and_random() -> None:
    shape, rect = (1500, 1400), Rect(0, 1500, 0, 1400)
    out = ref(shape, "float64", (256, 512))
    terms = (Term(Operand(ref(shape, "int32")), "2"), Term(Operand(ref(shape, "float64"), is_transposed=False), "0.5"))
    work = Elementwise(terms, out, rect)

    def add() -> np.ndarray:
        x, y = np.ones(shape, np.int32), np.ones(shape)
        return elementwise.combine([(2, x), (0.5, y)], is_subtraction=False)

    assert measured(add) <= peak_bytes(work)
    cast = Elementwise((Term(Operand(ref(shape, "float64"))),), ref(shape, "complex128", url="s3://b/x"), rect)
    widened = partial(elementwise.combine, is_subtraction=False, dtype=np.dtype("complex128"))
    assert measured(lambda: widened([(None, np.ones(shape))])) <= peak_bytes(cast)
    for dtype in ("bool", "int64", "float32", "complex128"):
        random = Random(ref(shape, dtype), rect, "0", "2", 1)
        assert measured(partial(random_block, rect, shape, np.dtype(dtype), "0", "2", 1)) <= peak_bytes(random)


@pytest.mark.parametrize("dtype", ["float64", "int64", "complex64"])
def test_project_and_check(dtype: str) -> None:
    m, k, n = 300, 2000, 1500
    rng = np.random.default_rng(0)
    a, b = full_range(rng, (m, k), np.dtype(dtype)), full_range(rng, (k, n), np.dtype(dtype))
    gemm = Gemm(Operand(ref((m, k), dtype)), Operand(ref((k, n), dtype)), ref((m, n), dtype), Rect(0, m, 0, n), 0, k, 500, dtype)
    project = Project(gemm.b, Rect(0, 1000, 0, n), 1, 20, dtype, "")
    assert measured(lambda: verification.project(b[:1000].copy(), b.dtype, 1, 20)) <= peak_bytes(project)
    projection = verification.project(b, b.dtype, 1, 20)
    result = a @ b
    work = Check(ref((m, n), dtype), Rect(0, m, 0, n), "", 1, 20, gemm)

    def check() -> object:
        mine = verification.join_projections([projection])
        judged = verification.ProductCheck(work)
        for k0 in range(0, k, 500):
            judged.add(a[:, k0 : k0 + 500].copy(), mine.rows(slice(k0, k0 + 500)))
        return judged.finish(result.copy(), None)

    assert measured(check) <= peak_bytes(work)


def test_csv_in_and_out() -> None:
    band = np.random.default_rng(0).normal(size=(2000, 300)) * 1e-200
    text = csv.encode(band)
    source = MatrixRef("file:///x.csv", "csv", size_bytes=len(text))
    export = Export(ref((2000, 300), "float64"), Rect(0, 2000, 0, 300), "csv", "")
    assert measured(lambda: csv.encode(band.copy())) <= peak_bytes(export)
    parse = ParseCsv(source, ref((2000, 300), "float64"), Rect(0, 2000, 0, 300), 0, len(text), 0)
    assert measured(lambda: csv.parse(bytes(bytearray(text)), 300, np.dtype(float))) <= peak_bytes(parse)
    scan = ScanCsv(source, 0, len(text), len(text), "")
    assert measured(lambda: (csv.row_starts(bytes(bytearray(text))), csv.scan(text))) <= peak_bytes(scan)
    lines = b"1\n" * 2_000_000
    narrow = ScanCsv(source, 0, len(lines), len(lines), "")
    assert measured(lambda: (csv.row_starts(bytes(bytearray(lines))), csv.scan(lines))) <= peak_bytes(narrow)


def test_every_kind_of_work_has_a_footprint_that_grows_with_it() -> None:
    def works(n: int) -> list[Work]:
        x, rect = ref((n, n), "float64"), Rect(0, n, 0, n)
        gemm = Gemm(Operand(x), Operand(x), x, rect, 0, n, 512, "float64")
        again = Elementwise((Term(Operand(x, is_transposed=True)),), x, rect)
        return [
            gemm, Reduce(x, 4, x, rect), again, Random(x, rect, "0", "1", 1), ParseCsv(x, x, rect, 0, 8 * n * n, 0),
            Export(x, rect, "npy", ""), Export(x, rect, "csv", ""), Project(Operand(x), rect, 1, 20, "float64", ""),
            Check(x, rect, "", product=gemm), Check(x, rect, "", elementwise=again),
            Check(x, rect, "", random=Random(x, rect, "0", "1", 1)),
        ]  # fmt: skip

    for small, large in zip(works(1024), works(4096), strict=True):
        assert 8 * 4096**2 < peak_bytes(large) < 16 * peak_bytes(small) + 2**20
    x = ref((1, 1), "float64")
    assert peak_bytes(Gunzip(x, x)) == peak_bytes(Publish(x, "op")) < 100 * 2**20


def test_a_transposed_operand_fetches_the_tiles_of_its_own_layout() -> None:
    tall = MatrixRef("file:///x", "zarr", (4096, 64), "float64", (4096, 64))
    straight = Project(Operand(tall), Rect(0, 64, 0, 64), 1, 20, "float64", "")
    turned = Project(Operand(tall, is_transposed=True), Rect(0, 64, 0, 4096), 1, 20, "float64", "")
    assert peak_bytes(turned) > peak_bytes(straight)
