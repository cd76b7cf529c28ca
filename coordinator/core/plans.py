"""From an operation's record to its stages. Pure: what is known goes in, a plan comes out.

An operation is planned in parts, because a CSV's shape is known only after it was read once: ``gunzip`` (compressed
CSVs become plain), ``scan`` (rows, columns, types), ``main`` (everything else). Parts that are not needed are left out.
Each part is written to the store before its jobs are sent, so that whoever takes over goes on with the same one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from coordinator.core import cost
from coordinator.core.cost import FleetFacts
from coordinator.core.outputs import Places, result_stages
from coordinator.core.products import product_stages, verify_stages
from coordinator.core.stages import (
    ElementwiseStage,
    GemmStage,
    GunzipStage,
    ParseStage,
    RandomStage,
    ReduceStage,
    ScanStage,
    Stage,
)
from tilefleet import submission
from tilefleet.dtypes import item_bytes
from tilefleet.errors import BadInput
from tilefleet.facts import CsvFacts
from tilefleet.footprint import peak_bytes
from tilefleet.formats.csv_index import Band, CsvIndex, combine
from tilefleet.matrix import MatrixRef, Operand, Rect, ceil_div, default_tile
from tilefleet.messages import ParseCsv, Random, Term
from tilefleet.records import OperationRecord, from_json

Part = Literal["gunzip", "scan", "main"]
PARTS: tuple[Part, ...] = ("gunzip", "scan", "main")
PIECE_BYTES = 4 * 2**20  # granularity of the row index of a CSV: a band re-reads at most this much
LEAST_TILE, MOST_TILE = 2**20, 64 * 2**20  # bytes of a tile that a result takes over from what it is made of
RANGE_BYTES = 64 * 2**20  # bytes of one scan job: 0.1–0.3 s of parsing


class Settings(msgspec.Struct, frozen=True):
    """What the configuration says to the planner."""

    store_url: str
    job_target_s: float = 20.0


class Plan(msgspec.Struct, frozen=True):
    """One part of an operation's plan."""

    part: Part
    stages: tuple[Stage, ...]
    sources: dict[str, MatrixRef] = {}
    """What the operands' URLs stand for by now: plain files for compressed ones, tiles for parsed ones."""
    result: MatrixRef | None = None
    predicted_s: float = 0.0


class Known(msgspec.Struct, frozen=True):
    """What was found out since the record was written."""

    sources: dict[str, MatrixRef] = {}
    """By URL in the record: the matrix to use in its place."""
    scans: dict[str, CsvFacts] = {}
    """By URL in the record: the facts of all ranges of the (plain) CSV, joined."""


def operands(record: OperationRecord) -> dict[str, MatrixRef]:
    """The matrices an operation reads, by their place in the record; each URL once."""
    places = {"a": record.a, "b": record.b, "c": record.c}
    found = {name: operand.matrix for name, operand in places.items() if operand is not None}
    if record.checked is not None:
        found["checked"] = record.checked
    unique: dict[str, str] = {}
    for name, matrix in found.items():
        unique.setdefault(matrix.url, name)
    return {name: found[name] for name in unique.values()}


def next_part(record: OperationRecord, done: frozenset[Part]) -> Part | None:
    """The part to plan next; None when the operation is finished."""
    csvs = [matrix for matrix in operands(record).values() if matrix.format == "csv"]
    if any(matrix.is_gzip for matrix in csvs) and "gunzip" not in done:
        return "gunzip"
    if csvs and "scan" not in done:
        return "scan"
    return "main" if "main" not in done else None


def read_plan(data: bytes, where: str) -> Plan:
    """A plan as it was saved. Raises BadInput, naming ``where``, for what is none, or none that can be carried out."""
    saved = from_json(data, Plan, where)
    try:
        for stage in saved.stages:
            stage.job_of_key(f"{stage.output_url}/c/0/0")
            if stage.n_jobs:
                peak_bytes(stage.work(0)), stage.n_keys(0), stage.work(stage.n_jobs - 1)
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise BadInput(f"{where} is no plan that can be carried out: {error}") from error
    return saved


def plan(part: Part, record: OperationRecord, known: Known, fleet: FleetFacts, settings: Settings) -> Plan:
    """That part of the plan.

    Raises BadInput (shapes or types that do not go together, now that they are known) and DoesNotFit.
    """
    ample = fleet
    while True:
        try:
            made = _fitted(_plan(part, record, known, ample, settings), ample)
        except cost.NeedsMemory as need:  # for one stage: look on for what is enough for all
            ample = msgspec.structs.replace(fleet, memory_bytes=max(need.memory_bytes, ample.memory_bytes + 1))
            continue
        if ample is fleet:
            return made
        raise cost.does_not_fit(ample.memory_bytes, fleet)


def _plan(part: Part, record: OperationRecord, known: Known, fleet: FleetFacts, settings: Settings) -> Plan:
    places = Places(settings.store_url, record.id)
    if part == "gunzip":
        return _gunzip_plan(record, places)
    if part == "scan":
        return _scan_plan(record, known, places, fleet)
    return _main_plan(record, known, places, fleet, settings)


def _fitted(made: Plan, fleet: FleetFacts) -> Plan:
    """The plan with every stage's memory filled in. A job that is alone in its stage may take all of it, and so may a block of
    a product, which is then alone in its worker."""
    stages = []
    for stage in made.stages:
        peak = stage.peak_bytes or (peak_bytes(stage.work(0)) if stage.n_jobs else 0)
        is_alone = stage.n_jobs == 1 or isinstance(stage, GemmStage)
        if peak > (fleet.memory_bytes if is_alone else fleet.job_bytes):
            raise cost.NeedsMemory(peak if is_alone else peak * cost.SLOTS)
        stages.append(msgspec.structs.replace(stage, peak_bytes=peak))
    return msgspec.structs.replace(made, stages=tuple(stages))


def _gunzip_plan(record: OperationRecord, places: Places) -> Plan:
    stages, sources = [], {}
    for name, matrix in operands(record).items():
        if matrix.format == "csv" and matrix.is_gzip:
            plain = msgspec.structs.replace(matrix, url=f"{places.operand(name)}.csv", is_gzip=False, size_bytes=0)
            stages.append(
                GunzipStage(
                    name=f"gunzip_{name}", phase="ingest", source=matrix, out=plain, facts_url=places.facts(f"gunzip_{name}")
                )
            )
            sources[matrix.url] = plain
    return Plan("gunzip", tuple(stages), sources)


def _scan_plan(record: OperationRecord, known: Known, places: Places, fleet: FleetFacts) -> Plan:
    stages = []
    for name, matrix in operands(record).items():
        if matrix.format != "csv":
            continue
        plain = known.sources.get(matrix.url, matrix)
        share = plain.size_bytes // (2 * fleet.n_workers)
        range_bytes = max(PIECE_BYTES, min(RANGE_BYTES, share // PIECE_BYTES * PIECE_BYTES))
        stages.append(
            ScanStage(
                name=f"scan_{name}",
                phase="ingest",
                source=plain,
                size_bytes=plain.size_bytes,
                range_bytes=range_bytes,
                piece_bytes=PIECE_BYTES,
                facts_url=places.facts(f"scan_{name}"),
                dtype=matrix.dtype or record.csv_dtype,
            )
        )
    return Plan("scan", tuple(stages), known.sources)


def join_scans(facts: list[CsvFacts], url: str) -> CsvFacts:
    """The facts of all ranges of one CSV as one. Raises BadInput for a ragged or an empty one."""
    (_, cols), dtype = combine(facts, submission.shown(url))
    return CsvFacts(tuple(count for fact in facts for count in fact.rows), cols, dtype)


def _main_plan(record: OperationRecord, known: Known, places: Places, fleet: FleetFacts, settings: Settings) -> Plan:
    resolved = _resolved(record, known)
    shape, dtype = _known_type(resolved)
    ingest: list[Stage] = []
    sources: dict[str, MatrixRef] = {}
    for name, matrix in operands(resolved).items():
        stage = _ingest_stage(name, matrix, record, known, places, fleet)
        if stage is not None:
            ingest.append(stage)
            sources[matrix.url] = stage.out
    ready = _with_sources(resolved, sources)
    after = tuple(stage.name for stage in ingest)
    if record.kind == "verify":
        return _summed(Plan("main", (*ingest, *verify_stages(ready, after, places, fleet)), sources), fleet)
    out = places.result(record, shape, dtype, _result_tile(ready, shape, item_bytes(dtype), fleet))
    made = _computing(ready, out, after, places, fleet, settings)
    tiles = made[-1].out if made else _source(ready)
    published = result_stages(record, tiles, tuple(stage.name for stage in (*ingest, *made)), places, fleet)
    return _summed(Plan("main", (*ingest, *made, *published.stages), sources, published.result), fleet)


def _result_tile(record: OperationRecord, shape: tuple[int, int], itemsize: int, fleet: FleetFacts) -> tuple[int, int]:
    """What the record asks for; else for a sum the tile that its operands have in common, if it is of a useful size, so that each
    tile is made of one of each; else that of a matrix of ours."""
    usual = default_tile(shape, itemsize)
    if record.tile is not None or record.kind not in ("add", "subtract", "scale"):
        return record.tile or usual
    tiles = {operand.matrix.tile for operand in (record.a, record.b) if operand is not None and not operand.is_transposed}
    tile = tiles.pop() if len(tiles) == 1 else None
    if tile is None or tile[0] > shape[0] or tile[1] > shape[1]:
        return usual
    most = max(usual[0] * usual[1] * itemsize, min(MOST_TILE, fleet.job_bytes // 8))  # a job holds some tiles of each matrix
    return tile if LEAST_TILE <= tile[0] * tile[1] * itemsize <= most else usual


def _source(record: OperationRecord) -> MatrixRef:
    if record.a is None:
        raise BadInput(f"the record of {record.id} has no matrix a")
    return record.a.matrix


def _known_type(record: OperationRecord) -> tuple[tuple[int, int], str]:
    shape, dtype = submission.result_type(record)
    if shape is None or dtype is None:
        raise BadInput(f"the record of {record.id} does not say the shape and type of its operands")
    return shape, dtype


def _resolved(record: OperationRecord, known: Known) -> OperationRecord:
    """The record with every CSV's shape and dtype filled in."""
    sources = {}
    for matrix in operands(record).values():
        scan = known.scans.get(matrix.url)
        if matrix.format == "csv" and scan is not None:
            plain = known.sources.get(matrix.url, matrix)
            shape, dtype = (sum(scan.rows), scan.cols), matrix.dtype or record.csv_dtype or scan.dtype
            sources[matrix.url] = msgspec.structs.replace(plain, shape=shape, dtype=dtype)
    return _with_sources(record, sources)


def _with_sources(record: OperationRecord, sources: dict[str, MatrixRef]) -> OperationRecord:
    def swapped(operand: Operand | None) -> Operand | None:
        if operand is None or operand.matrix.url not in sources:
            return operand
        return msgspec.structs.replace(operand, matrix=sources[operand.matrix.url])

    checked = sources.get(record.checked.url, record.checked) if record.checked else None
    return msgspec.structs.replace(record, a=swapped(record.a), b=swapped(record.b), c=swapped(record.c), checked=checked)


def _ingest_stage(
    name: str, matrix: MatrixRef, record: OperationRecord, known: Known, places: Places, fleet: FleetFacts
) -> ParseStage | ElementwiseStage | None:
    if matrix.format == "csv":
        return _parse_stage(name, matrix, record, known, places, fleet)
    is_read_often = record.kind in ("multiply", "verify") and name != "c"
    if matrix.format == "npy" and matrix.url.startswith("s3://") and is_read_often:
        out = places.tiles(places.operand(name), matrix)
        terms = (Term(Operand(matrix)),)
        return _elementwise(f"ingest_{name}", "ingest", terms, out, (), fleet)
    return None


def _parse_stage(
    name: str, matrix: MatrixRef, record: OperationRecord, known: Known, places: Places, fleet: FleetFacts
) -> ParseStage:
    scan = next(known.scans[url] for url, plain in _plain_urls(record, known).items() if plain == matrix.url)
    tiles = places.tiles(places.operand(name), matrix)
    if _is_plain_copy(record, matrix.dtype) and record.out.format == "zarr":  # then the parsed tiles are the result
        tiles = places.result(record, tiles.grid.shape, matrix.dtype or "", record.tile or tiles.grid.tile)
    index = CsvIndex([scan], [(0, matrix.size_bytes)], PIECE_BYTES)
    out, found, peak = _bands(index, tiles, matrix, fleet)
    block = (out.grid.tile[0], out.grid.n_cols * out.grid.tile[1])
    return ParseStage(
        name=f"parse_{name}", phase="ingest", out=out, block=block, source=matrix, peak_bytes=peak,
        byte0=tuple(band.byte0 for band in found), byte1=tuple(band.byte1 for band in found),
        skip_rows=tuple(band.skip_rows for band in found), job_s=out_s(out, block, fleet) * 4,
    )  # fmt: skip


def _is_plain_copy(record: OperationRecord, dtype: str | None) -> bool:
    """Whether the result has the elements of matrix a (of that dtype) as they lie."""
    is_transposed = record.a is not None and record.a.is_transposed
    return record.kind == "convert" and not is_transposed and record.dtype in (None, dtype)


def _plain_urls(record: OperationRecord, known: Known) -> dict[str, str]:
    return {m.url: known.sources.get(m.url, m).url for m in operands(record).values() if m.format == "csv"}


def _bands(index: CsvIndex, out: MatrixRef, source: MatrixRef, fleet: FleetFacts) -> tuple[MatrixRef, list[Band], int]:
    """Tiles low enough that a band of whole rows fits in one job (a CSV is parsed by rows), where the bands lie, their peak."""
    (m, n), (rows, cols) = out.grid.shape, out.grid.tile
    while True:
        out = msgspec.structs.replace(out, tile=(rows, cols))
        bands = [index.band(row0, min(m, row0 + rows)) for row0 in range(0, m, rows)]
        longest = max(band.byte1 - band.byte0 for band in bands)
        peak = peak_bytes(ParseCsv(source, out, Rect(0, min(rows, m), 0, n), 0, longest, 0))
        if peak <= fleet.job_bytes or rows == 1:
            return out, bands, peak
        rows = ceil_div(rows, 2)


def _computing(
    record: OperationRecord, out: MatrixRef, after: tuple[str, ...], places: Places, fleet: FleetFacts, settings: Settings
) -> tuple[GemmStage | ReduceStage | RandomStage | ElementwiseStage, ...]:
    if record.kind == "multiply":
        return product_stages(record, out, after, places, fleet, settings.job_target_s)
    if record.kind == "random":
        return (_random_stage(record, out, fleet),)
    if _is_plain_copy(record, _source(record).dtype) and (after or record.out.format != "zarr"):
        return ()  # the tiles just parsed are the result, or the source is encoded as it lies
    terms = tuple(
        Term(operand, factor) for operand, factor in ((record.a, record.alpha), (record.b, record.beta)) if operand is not None
    )
    return (_elementwise(record.kind, "compute", terms, out, after, fleet, is_subtraction=record.kind == "subtract"),)


def _random_stage(record: OperationRecord, out: MatrixRef, fleet: FleetFacts) -> RandomStage:
    spec = record.random
    if spec is None:
        raise BadInput(f"the record of {record.id} asks for a random matrix without saying which")
    block, peak = cost.choose_block(out, lambda rect: Random(out, rect, spec.low, spec.high, spec.seed), fleet, 0)
    return RandomStage(
        name="random", phase="compute", out=out, block=block, low=spec.low, high=spec.high, seed=spec.seed,
        peak_bytes=peak, job_s=out_s(out, block, fleet) * 2,
    )  # fmt: skip


def _elementwise(
    name: str, phase: Literal["ingest", "compute"], terms: tuple[Term, ...], out: MatrixRef, after: tuple[str, ...],
    fleet: FleetFacts, *, is_subtraction: bool = False,
) -> ElementwiseStage:  # fmt: skip
    stage = ElementwiseStage(
        name=name, phase=phase, after=after, out=out, block=out.grid.tile, terms=terms, is_subtraction=is_subtraction
    )
    block, peak = cost.choose_block(out, lambda rect: msgspec.structs.replace(stage.work(0), rect=rect), fleet, len(terms))
    job_s = out_s(out, block, fleet) * (1 + len(terms))
    return msgspec.structs.replace(stage, block=block, peak_bytes=peak, job_s=job_s)


def out_s(out: MatrixRef, block: tuple[int, int], fleet: FleetFacts) -> float:
    """Seconds to move one block of ``out`` between a worker and the store."""
    rows, cols = min(block[0], out.grid.shape[0]), min(block[1], out.grid.shape[1])
    return cost.JOB_OVERHEAD_S + rows * cols * item_bytes(str(out.dtype)) / fleet.bytes_per_s


def _summed(plan: Plan, fleet: FleetFacts) -> Plan:
    """The plan with its predicted time: stages one after another, jobs of a stage spread over the workers."""
    predicted_s = sum(ceil_div(stage.n_jobs, fleet.n_workers) * (stage.job_s or cost.JOB_OVERHEAD_S) for stage in plan.stages)
    return msgspec.structs.replace(plan, predicted_s=predicted_s)
