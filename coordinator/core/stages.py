"""Stages: what an operation's jobs are, by index arithmetic. A plan is a list of them; nothing of its size is ever held.

The rules: within a stage all jobs are independent; a stage may begin when every stage named in ``after`` is done;
``work(index)`` says what job ``index`` computes, the same for ever; a job is done when its ``n_keys(index)`` output
objects exist below ``output_url``. Stages are plain data, so a plan is written to the store as it is.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from tilefleet import layout
from tilefleet.matrix import Grid, MatrixRef, Operand, Rect, ceil_div, tile_of_key
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
    Work,
)

Phase = Literal["ingest", "compute", "verify", "export", "commit"]


class StageBase(msgspec.Struct, frozen=True, kw_only=True):
    """What every stage says of itself."""

    name: str
    phase: Phase
    after: tuple[str, ...] = ()
    job_s: float = 0.0
    """Predicted seconds of one job on one worker."""
    peak_bytes: int = 0
    """Largest memory one job needs."""

    @property
    def n_jobs(self) -> int:
        return 1

    @property
    def output_url(self) -> str:
        """Where to list what is done."""
        raise NotImplementedError

    def n_keys(self, index: int) -> int:
        """How many output objects job ``index`` writes."""
        return 1

    def job_of_key(self, key: str) -> int | None:
        """The job that writes the object ``key`` (relative to ``output_url``); None for an object of another kind."""
        return layout.index_of_key(key)

    def work(self, index: int) -> Work:
        """What job ``index`` computes."""
        raise NotImplementedError


class BlockStage(StageBase, frozen=True, kw_only=True):
    """One job for each block of tiles of ``out``."""

    out: MatrixRef
    block: tuple[int, int]
    """Rows and columns of a block: multiples of the tile's."""

    @property
    def blocks(self) -> Grid:
        shape = self.out.shape
        if shape is None:
            raise ValueError(f"{self.out.url} has no blocks yet")
        return Grid(shape, self.block)

    @property
    def n_jobs(self) -> int:
        return self.blocks.n_tiles

    @property
    def output_url(self) -> str:
        return self.out.url

    def rect(self, index: int) -> Rect:
        """The block of job ``index``."""
        return self.blocks.rect(*self.place(index))

    def place(self, index: int) -> tuple[int, int]:
        """Row and column of that block among the blocks, in an order that keeps neighbours together."""
        return serpentine(index, self.blocks)

    def index_of(self, i: int, j: int) -> int:
        """Inverse of ``place``."""
        return serpentine_index(i, j, self.blocks)

    def n_keys(self, index: int) -> int:
        rect, (tm, tn) = self.rect(index), self.out.grid.tile
        return ceil_div(rect.rows, tm) * ceil_div(rect.cols, tn)

    def job_of_key(self, key: str) -> int | None:
        tile = tile_of_key(key)
        if tile is None or tile[0] >= self.out.grid.n_rows or tile[1] >= self.out.grid.n_cols:
            return None
        (tm, tn), (bm, bn) = self.out.grid.tile, self.block
        return self.index_of(tile[0] * tm // bm, tile[1] * tn // bn)


class GemmStage(BlockStage, frozen=True, kw_only=True, tag="gemm"):
    """op(A) @ op(B) by blocks of the result; with ``n_splits`` > 1 the k dimension is cut too and ``out`` holds partials."""

    a: Operand
    b: Operand
    panel_k: int
    product_dtype: str
    epilogue: Epilogue | None = None
    n_splits: int = 1
    split_k: int = 0

    @property
    def k(self) -> int:
        return self.a.shape[1]

    @property
    def n_blocks(self) -> int:
        """Blocks of the result that are computed."""
        return self.blocks.n_tiles

    @property
    def n_jobs(self) -> int:
        return self.n_blocks * self.n_splits

    def rect(self, index: int) -> Rect:
        return super().rect(index if self.n_splits == 1 else index % self.n_blocks)

    def job_of_key(self, key: str) -> int | None:
        block = super().job_of_key(key)
        if self.n_splits == 1 or block is None:
            return block
        split = key.split("/", 1)[0]
        return int(split) * self.n_blocks + block if split.isdecimal() and int(split) < self.n_splits else None

    def work(self, index: int) -> Gemm:
        rect = self.rect(index)
        if self.n_splits == 1:
            return Gemm(self.a, self.b, self.out, rect, 0, self.k, self.panel_k, self.product_dtype, self.epilogue)
        split = index // self.n_blocks
        k0, k1 = split * self.split_k, min(self.k, (split + 1) * self.split_k)
        return Gemm(self.a, self.b, part_of(self.out, split), rect, k0, k1, self.panel_k, self.product_dtype)


class SyrkStage(GemmStage, frozen=True, kw_only=True, tag="syrk"):
    """op(A) @ op(A)ᵀ: tiles and blocks are square, and only blocks on and above the diagonal are computed."""

    @property
    def n_blocks(self) -> int:
        return triangle(self.blocks.n_cols)

    def place(self, index: int) -> tuple[int, int]:
        j = (math.isqrt(8 * index + 1) - 1) // 2
        return index - triangle(j), j

    def index_of(self, i: int, j: int) -> int:
        return triangle(max(i, j)) + min(i, j)

    def n_keys(self, index: int) -> int:
        return super().n_keys(index) * len(self.work(index).outputs)

    def work(self, index: int) -> Syrk:
        return Syrk(*msgspec.structs.astuple(super().work(index)))


def triangle(n: int) -> int:
    """1 + 2 + … + n: blocks on and above the diagonal of n × n."""
    return n * (n + 1) // 2


class ReduceStage(BlockStage, frozen=True, kw_only=True, tag="reduce"):
    """Sum of the partial products, then the epilogue."""

    parts: MatrixRef
    n_parts: int
    epilogue: Epilogue | None = None

    def work(self, index: int) -> Work:
        return Reduce(self.parts, self.n_parts, self.out, self.rect(index), self.epilogue)


class ElementwiseStage(BlockStage, frozen=True, kw_only=True, tag="elementwise"):
    """Sum, difference, multiple, transpose or copy."""

    terms: tuple[Term, ...]
    is_subtraction: bool = False

    def work(self, index: int) -> Work:
        return Elementwise(self.terms, self.out, self.rect(index), self.is_subtraction)


class RandomStage(BlockStage, frozen=True, kw_only=True, tag="random"):
    """Random elements."""

    low: str
    high: str
    seed: int

    def work(self, index: int) -> Work:
        return Random(self.out, self.rect(index), self.low, self.high, self.seed)


class GunzipStage(StageBase, frozen=True, kw_only=True, tag="gunzip"):
    """One job: a gzip stream has no place to begin in but its beginning."""

    source: MatrixRef
    out: MatrixRef
    facts_url: str

    @property
    def output_url(self) -> str:
        return self.facts_url

    def work(self, index: int) -> Work:
        return Gunzip(self.source, self.out)


class ScanStage(StageBase, frozen=True, kw_only=True, tag="scan"):
    """First pass over a CSV: one job for each range of bytes."""

    source: MatrixRef
    size_bytes: int
    range_bytes: int
    piece_bytes: int
    facts_url: str
    dtype: str | None = None

    @property
    def n_jobs(self) -> int:
        return max(1, ceil_div(self.size_bytes, self.range_bytes))

    @property
    def output_url(self) -> str:
        return self.facts_url

    def work(self, index: int) -> Work:
        byte0 = index * self.range_bytes
        byte1 = min(self.size_bytes, byte0 + self.range_bytes)
        return ScanCsv(self.source, byte0, byte1, self.piece_bytes, layout.indexed(self.facts_url, index), self.dtype)


class ParseStage(BlockStage, frozen=True, kw_only=True, tag="parse"):
    """Second pass over a CSV: one job for each band of rows, all columns."""

    source: MatrixRef
    byte0: tuple[int, ...]
    byte1: tuple[int, ...]
    skip_rows: tuple[int, ...]

    def work(self, index: int) -> Work:
        return ParseCsv(self.source, self.out, self.rect(index), self.byte0[index], self.byte1[index], self.skip_rows[index])


class BandStage(StageBase, frozen=True, kw_only=True):
    """One job for each band of rows of ``matrix``, all columns; its output is one small object."""

    n_rows: int
    n_cols: int
    band_rows: int
    facts_url: str

    @property
    def n_jobs(self) -> int:
        return ceil_div(self.n_rows, self.band_rows)

    @property
    def output_url(self) -> str:
        return self.facts_url

    def rect(self, index: int) -> Rect:
        """The rows of job ``index``."""
        return Rect(index * self.band_rows, min(self.n_rows, (index + 1) * self.band_rows), 0, self.n_cols)

    def url(self, index: int) -> str:
        """Where job ``index`` writes."""
        return layout.indexed(self.facts_url, index)


class ExportStage(BandStage, frozen=True, kw_only=True, tag="export"):
    """Bands of the result encoded as parts of a file."""

    source: MatrixRef
    format: Literal["npy", "csv"]

    def work(self, index: int) -> Work:
        return Export(self.source, self.rect(index), self.format, self.url(index))


class ProjectStage(BandStage, frozen=True, kw_only=True, tag="project"):
    """op(B) times the check vectors."""

    b: Operand
    seed: int
    n_vectors: int
    product_dtype: str

    def work(self, index: int) -> Work:
        return Project(self.b, self.rect(index), self.seed, self.n_vectors, self.product_dtype, self.url(index))


class CheckStage(BandStage, frozen=True, kw_only=True, tag="check"):
    """Bands of a stored result against its operands. ``template`` is the check of the whole, cut to each band."""

    template: Check

    def work(self, index: int) -> Work:
        return msgspec.structs.replace(self.template, rect=self.rect(index), facts_url=self.url(index))


class PublishStage(StageBase, frozen=True, kw_only=True, tag="publish"):
    """One job that makes the result appear under its name."""

    publish: Publish
    facts_url: str

    @property
    def output_url(self) -> str:
        return self.facts_url

    def work(self, index: int) -> Work:
        return self.publish


Stage = (
    GemmStage
    | SyrkStage
    | ReduceStage
    | ElementwiseStage
    | RandomStage
    | GunzipStage
    | ScanStage
    | ParseStage
    | ExportStage
    | ProjectStage
    | CheckStage
    | PublishStage
)


def part_of(parts: MatrixRef, p: int) -> MatrixRef:
    """The p-th partial product of a split-k multiplication."""
    return msgspec.structs.replace(parts, url=f"{parts.url}/{p}")


def serpentine(index: int, blocks: Grid) -> tuple[int, int]:
    """Block (i, j) of a job: row by row, every other row backwards, so that neighbours in time share rows or columns."""
    n_cols = blocks.n_cols
    i, j = divmod(index, max(1, n_cols))  # a matrix without columns has no jobs, but its plan asks what one would be
    return i, j if i % 2 == 0 else n_cols - 1 - j


def serpentine_index(i: int, j: int, blocks: Grid) -> int:
    """Inverse of ``serpentine``."""
    return i * blocks.n_cols + (j if i % 2 == 0 else blocks.n_cols - 1 - j)
