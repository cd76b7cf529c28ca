"""Products and sums from Zarr to Zarr, beside every peer; checked by Freivalds in every row, integers bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.matrices import Matrix
from benchmarks.rounds import Operation, measure
from benchmarks.works import Bench, Outcome, Work

FLOAT_PEERS = ("tilefleet", "numpy", "dask-threads", "dask-cluster", "cubed", "ray")
INTEGER_PEERS = ("tilefleet", "numpy", "dask-threads")
QUICK_PEERS = ("tilefleet", "numpy", "dask-threads", "ray")  # beside float64, which has all
QUICK_SUM, QUICK_WIDE = 2048, (500,)


def product(m: int, k: int, n: int, dtype: str, low: int = 0, high: int = 10) -> Operation:
    a, b = Matrix(m, k, dtype, low, high, seed=1), Matrix(k, n, dtype, low, high, seed=2)
    shape = f"{n}²" if m == k == n else f"{m}×{k}·{k}×{n}"
    values = f" in [{low}, {high})" if dtype.startswith("int") else ""
    return Operation(f"{dtype}{values} {shape}", "multiply", a, b)


def total(n: int, dtype: str) -> Operation:
    return Operation(f"sum {dtype} {n}²", "add", Matrix(n, n, dtype, seed=1), Matrix(n, n, dtype, seed=2))


def measured(bench: Bench, operations: Sequence[Operation], peers: tuple[str, ...]) -> Outcome:
    """All operations with the same warm peers."""
    children, failed = bench.pool.only(bench.chosen(peers))
    cases = [measure(operation, children, bench.rounds, bench.say) for operation in operations]
    for case in cases:
        case.failed = failed | case.failed
    return Outcome(cases)


def _float64(bench: Bench) -> Outcome:
    sizes = bench.sizes or ((512, 2048) if bench.is_quick else (1024, 2048, 4096, 8192))
    return measured(bench, [product(n, n, n, "float64") for n in sizes], FLOAT_PEERS)


def _float32(bench: Bench) -> Outcome:
    return _square(bench, "float32", 8192)


def _complex128(bench: Bench) -> Outcome:
    return _square(bench, "complex128", 4096)


def _square(bench: Bench, dtype: str, n: int) -> Outcome:
    sizes = bench.sizes or (n // 4 if bench.is_quick else n,)
    return measured(bench, [product(n, n, n, dtype) for n in sizes], QUICK_PEERS if bench.is_quick else FLOAT_PEERS)


def _wide(bench: Bench) -> Outcome:
    m, k = (3000, 600) if bench.is_quick else (20000, 2000)
    return measured(bench, [product(m, k, m, "float64")], QUICK_PEERS if bench.is_quick else FLOAT_PEERS)


def _deep(bench: Bench) -> Outcome:
    m, k = (1000, 4000) if bench.is_quick else (2000, 60000)
    return measured(bench, [product(m, k, m, "float64")], QUICK_PEERS if bench.is_quick else FLOAT_PEERS)


def _int64(bench: Bench) -> Outcome:
    sizes = bench.sizes or ((1000,) if bench.is_quick else (1000, 1500, 2000))
    small = [product(n, n, n, "int64") for n in sizes]
    wide = [product(n, n, n, "int64", -(2**31), 2**31) for n in (QUICK_WIDE if bench.is_quick else sizes)]
    return measured(bench, [*small, *wide], INTEGER_PEERS)


def _add(bench: Bench) -> Outcome:
    sizes = bench.sizes or (QUICK_SUM if bench.is_quick else 8192,)
    return measured(bench, [total(n, "float64") for n in sizes], ("tilefleet", "copy", "numpy", "dask-threads", "cubed"))


WORKS = (
    Work("product-float64", "float64, n × n, from Zarr to Zarr; Freivalds", _float64),
    Work("product-float32", "float32, 8192², from Zarr to Zarr; Freivalds", _float32),
    Work("product-complex128", "complex128, 4096², from Zarr to Zarr; Freivalds", _complex128),
    Work("product-wide", "20000×2000 · 2000×20000: the result is 3.2 GB; Freivalds", _wide),
    Work("product-deep", "2000×60000 · 60000×2000: k is split; Freivalds", _deep),
    Work("product-int64", "int64, digits 0–9 as in the coursework and the range of int32; bit-equal to NumPy", _int64),
    Work("add", "the sum of two float64 8192², beside copying the same bytes; Freivalds", _add),
)
