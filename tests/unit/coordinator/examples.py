"""Operations of every kind over operands of every format, and what a planner would know of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st

from coordinator.core.cost import FleetFacts
from coordinator.core.plans import PIECE_BYTES, Known, Part, Plan, Settings, next_part, operands, plan
from tilefleet.facts import CsvFacts
from tilefleet.matrix import MatrixRef, Operand, ceil_div
from tilefleet.records import Kind, OperationRecord, Output, RandomSpec

STORE = "s3://fleet/store"
SETTINGS = Settings(STORE)
FLEET = FleetFacts(n_workers=4, memory_bytes=1 << 30)
OP = "0123456789ab"
BYTES_PER_ELEMENT = 8


def matrix(name: str, shape: tuple[int, int], form: str, *, at: str = "s3://data") -> MatrixRef:
    """A stored matrix; ``csv`` and ``csv.gz`` do not say their shape."""
    url = f"{at}/{name}.{form}"
    if form == "zarr":
        return MatrixRef(url, "zarr", shape, "float64", (512, 512), is_ours=True)
    if form == "foreign":
        return MatrixRef(f"{at}/{name}.zarr", "zarr", shape, "float64", (512, 512), layout="codec")
    if form == "npy":
        return MatrixRef(url, "npy", shape, "float64", size_bytes=128 + 8 * shape[0] * shape[1], data_offset_bytes=128)
    size = max(1, shape[0] * shape[1] * BYTES_PER_ELEMENT)
    return MatrixRef(url, "csv", size_bytes=size, is_gzip=form == "csv.gz")


def output(form: str | None, at: str) -> Output:
    """OUT of that format; None: no OUT."""
    if form is None:
        return Output()
    kind: Any = "csv" if form.startswith("csv") else form
    return Output(f"{at}/out.{form}", kind, is_gzip=form == "csv.gz")


def record(
    kind: Kind, forms: tuple[str, str] = ("zarr", "zarr"), out: Output | None = None, *,
    m: int = 1000, k: int = 900, n: int = 800, at: str = "s3://data", **more: Any,
) -> OperationRecord:  # fmt: skip
    """An operation of that kind: products are m × k by k × n, everything else is m × n."""
    out = out or Output()
    if kind == "random":
        return OperationRecord(OP, kind, random=RandomSpec((m, n), "float64", "0", "1", 7), out=out, **more)
    if kind == "multiply":
        a, b = matrix("a", (m, k), forms[0], at=at), matrix("b", (k, n), forms[1], at=at)
        return OperationRecord(OP, kind, Operand(a), Operand(b), out=out, **more)
    a = matrix("a", (m, n), forms[0], at=at)
    if kind in ("add", "subtract"):
        return OperationRecord(OP, kind, Operand(a), Operand(matrix("b", (m, n), forms[1], at=at)), out=out, **more)
    if kind == "transpose":
        return OperationRecord(OP, kind, Operand(a, is_transposed=True), out=out, **more)
    return OperationRecord(OP, kind, Operand(a), alpha="2" if kind == "scale" else None, out=out, **more)


def verification(of: OperationRecord, shape: tuple[int, int]) -> OperationRecord:
    """A check of that operation's result."""
    return OperationRecord(
        OP, "verify", of.a, of.b, of.c, of.alpha, of.beta, of.random, verifies=OP, verifies_kind=of.kind,
        checked=MatrixRef("s3://data/result.zarr", "zarr", shape, "float64", (512, 512), is_ours=True),
    )  # fmt: skip


def scanned(rows: int, cols: int, size: int) -> CsvFacts:
    """What a scan would find in a file whose rows are all equally long."""
    starts = [i * PIECE_BYTES for i in range(max(1, ceil_div(size, PIECE_BYTES)) + 1)]
    firsts = [min(rows, ceil_div(start * rows, size)) for start in starts[:-1]] + [rows]
    return CsvFacts(tuple(b - a for a, b in pairwise(firsts)), cols, "float64")


def shapes_of(made: OperationRecord, m: int, k: int, n: int) -> dict[str, tuple[int, int]]:
    """Rows and columns of each operand by its URL, as ``record`` made it."""
    shapes = {"a": (m, k) if made.kind == "multiply" else (m, n), "b": (k, n) if made.kind == "multiply" else (m, n)}
    return {ref.url: shapes.get(name, (m, n)) for name, ref in operands(made).items()}


def plan_all(
    made: OperationRecord, fleet: FleetFacts = FLEET, settings: Settings = SETTINGS, *, m: int = 1000, k: int = 900, n: int = 800
) -> list[Plan]:
    """Every part of an operation's plan, in order, as if workers had found what ``record`` put there."""
    known, done, plans = Known(), frozenset[Part](), list[Plan]()
    shapes = shapes_of(made, m, k, n)
    while (part := next_part(made, done)) is not None:
        plans.append(plan(part, made, known, fleet, settings))
        sources = {**known.sources, **plans[-1].sources}
        scans = dict(known.scans)
        for url, (rows, cols) in shapes.items():
            if part == "gunzip" and url in sources:
                sources[url] = msgspec.structs.replace(sources[url], size_bytes=rows * cols * BYTES_PER_ELEMENT)
            if part == "scan":
                scans[url] = scanned(rows, cols, max(1, rows * cols * BYTES_PER_ELEMENT))
        known, done = Known(sources, scans), done | {part}
    return plans


KINDS: tuple[Kind, ...] = ("multiply", "add", "subtract", "scale", "transpose", "random", "convert")
FORMS = ("zarr", "npy", "csv", "csv.gz", "foreign")
OUTS = (None, "zarr", "npy", "csv", "csv.gz")
lengths = st.one_of(st.integers(1, 3), st.integers(1, 3000))
