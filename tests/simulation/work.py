"""What the work of a job means in the simulated store: the objects it writes, those it needs, and what it finds out."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.simulation.store import url_of
from tilefleet import layout
from tilefleet.facts import BytesFact, CheckFacts, CsvFacts, Facts
from tilefleet.matrix import MatrixRef, Rect, tile_key
from tilefleet.messages import Check, Elementwise, Export, Gemm, Gunzip, Job, ParseCsv, Project, Publish, Random, Reduce, ScanCsv

METADATA = "zarr.json"
OURS = url_of(f"{layout.OPERATIONS}/")
GUNZIPPED_BYTES = 12_000_000


def tiles(matrix: MatrixRef, rect: Rect) -> Iterator[str]:
    """URLs of the tiles of a rectangle."""
    for index in matrix.grid.tiles_in(rect):
        yield f"{matrix.url}/{tile_key(*index)}"


def whole(matrix: MatrixRef) -> Rect:
    rows, cols = matrix.shape or (0, 0)
    return Rect(0, rows, 0, cols)


def facts_url(job: Job) -> str:
    """As ``workerd.context.Context.facts_url``."""
    return url_of(layout.indexed(layout.facts(job.operation, job.stage), job.index))


def outputs(job: Job) -> list[str]:
    """The objects by which a job is known to be done; what is written last comes last."""
    work = job.work
    match work:
        case Gemm():
            return [tile for rect in work.outputs for tile in tiles(work.out, rect)]
        case Reduce() | Elementwise() | Random() | ParseCsv():
            return list(tiles(work.out, work.rect))
        case Export():
            return [work.part_url]
        case ScanCsv() | Check() | Project():
            return [work.facts_url]
        case Gunzip() | Publish():
            return [facts_url(job)]


def inputs(job: Job) -> Iterator[str]:
    """What earlier jobs of the same operation must have written."""
    work = job.work
    match work:
        case Gemm():
            yield from _operand(work.a.matrix, Rect(work.rect.row0, work.rect.row1, work.k0, work.k1))
            yield from _operand(work.b.matrix, Rect(work.k0, work.k1, work.rect.col0, work.rect.col1))
        case Reduce():
            for part in range(work.n_parts):
                yield from tiles(msgspec.structs.replace(work.parts, url=f"{work.parts.url}/{part}"), work.rect)
        case Elementwise():
            for term in work.terms:
                yield from _operand(term.operand.matrix, work.rect)
        case Export():
            yield from _operand(work.source, work.rect)
        case ScanCsv() | ParseCsv() if work.source.url.startswith(OURS):
            yield work.source.url
        case Check() | Publish():
            yield from _parts(work)


def _parts(work: Check | Publish) -> Iterator[str]:
    """The small objects it is put together from."""
    url = work.projections_url if isinstance(work, Check) else work.parts_url
    n_parts = work.n_projections if isinstance(work, Check) else work.n_parts
    if url is not None:
        yield from (layout.indexed(url, index) for index in range(n_parts))


def _operand(matrix: MatrixRef, rect: Rect) -> Iterator[str]:
    """Tiles of a matrix that the operation itself has made."""
    if matrix.format == "zarr" and matrix.url.startswith(OURS):
        yield from tiles(matrix, rect)


def facts_of(work: object) -> Facts | None:
    """What a job finds out: CSVs have one row of three int64 per 100 bytes."""
    match work:
        case ScanCsv():
            pieces = range(work.byte0, work.byte1, work.piece_bytes)
            rows = tuple((min(start + work.piece_bytes, work.byte1) - start) // 100 for start in pieces)
            return CsvFacts(rows, 3, "int64")
        case Gunzip():
            return BytesFact(GUNZIPPED_BYTES)
        case Check():
            return CheckFacts(worst=0.1)
        case Publish() | Export():
            return BytesFact(1000)
    return None
