"""The cost model: what a block shape costs in time, bytes and memory, and which one to take.

Output-stationary blocks: a job reads (rows + cols) × k elements and writes rows × cols once, so a product of m × k and
k × n by blocks of r × c moves about mnk (1/r + 1/c) elements; the least possible with S elements of fast memory is
2mnk/√S (Hong & Kung 1981; Kwasniewski et al., COSMA, arXiv:1908.09606). Larger blocks move less, smaller ones balance
better and end sooner: the planner weighs both with what the workers measured of themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from coordinator.core.stages import triangle
from tilefleet.errors import DoesNotFit
from tilefleet.footprint import peak_bytes
from tilefleet.matrix import Grid, MatrixRef, Operand, Rect, ceil_div, default_tile
from tilefleet.messages import Gemm, Syrk, Work
from tilefleet.quantities import format_bytes

JOB_OVERHEAD_S = 0.02  # receive, commit the last tile, report: 10–20 ms measured on the embedded deployment
SLOTS = 2  # jobs a worker holds: one computing, one fetching; so a job uses half of the memory, or all of it alone
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
PANEL_OVERHEAD_S = 0.003  # a panel's way through fetch, compute slot and check, measured over 15,000 thin ones
PANEL_BYTES = 8 * 2**20  # of a file without tiles: as much as a tile of ours
LEAST_PANEL = 256  # columns: BLAS is at its best from about there on
THIN_PANEL = 160  # lets a larger block into little memory; products by 128 took 7 % longer, by 192 2 to 6 %
AGAIN_S_PER_BYTE = 3e-10  # of a worker's time: it takes the cores from the arithmetic
SPLIT_ROUNDS = 2  # parts of k for each worker: a slower one may be given fewer, and each part is written and read once more
DEPTH_STEP = 32  # columns, by which panels are made deeper to use what memory is left
FRESH_S_PER_BYTE = 1e-9  # of blocks in fresh memory: 0.2 ns, but 2.5 ns where a virtual machine's host has to find it
LOCAL_WRITE = 3.0  # times as long as to read the same bytes: pages for a new file, and its checksums
LOCAL_WRITE_S_PER_BYTE = 1.5e-9  # and no less: new pages come at 0.3 GB/s where the system has none at hand, else at 1 to 3
SHORT_JOB_S, LONG_JOB_S = 0.25, 2.0  # of work that only reads and writes: shorter ones need not be several for each worker
WIDE_BYTES = 128 * 2**20  # that a block of such work may take, if it is more than a tile
MIN_SPLIT_JOB_S = 0.1  # below that, cutting a block for one more worker costs more than it gains


class NeedsMemory(Exception):
    """The workers have too little memory for a stage; ``memory_bytes`` of data in each would do for it."""

    def __init__(self, memory_bytes: int) -> None:
        super().__init__(memory_bytes)
        self.memory_bytes = ceil_div(10 * memory_bytes, _shown_to(memory_bytes)) * _shown_to(memory_bytes) // 10


def _shown_to(n_bytes: int) -> int:
    """The unit whose tenths people are told: what they then write into the configuration must be enough."""
    return next((unit for unit in (2**40, 2**30) if n_bytes >= unit), 2**20)


def does_not_fit(memory_bytes: int, fleet: FleetFacts) -> DoesNotFit:
    """The sentence for people."""
    return DoesNotFit(
        f"the operation needs {format_bytes(memory_bytes)} of data memory in each worker, and the smallest has "
        f"{format_bytes(fleet.memory_bytes)}; raise worker.memory (local.memory for the embedded deployment) by the difference"
    )


class FleetFacts(msgspec.Struct, frozen=True):
    """What the planner knows of the workers."""

    n_workers: int = 2
    memory_bytes: int = 1 << 30
    """Data budget of the smallest worker."""
    flops_per_s: float = 2e10
    """Of one worker on float64, the mean."""
    bytes_per_s: float = 5e8
    """Between one worker and the store."""

    @property
    def job_bytes(self) -> int:
        """What one job may need that is to have another beside it."""
        return self.memory_bytes // SLOTS


class GemmChoice(NamedTuple):
    """How a product is cut, and what that costs."""

    tile: tuple[int, int]
    block: tuple[int, int]
    panel_k: int
    n_splits: int
    split_k: int
    peak_bytes: int
    job_s: float
    makespan_s: float
    again_s: float
    """What a job takes beyond ``job_s`` to read rows of tiles again; chooses between cuts that move the same bytes."""
    bytes_moved: int


class GemmShape(NamedTuple):
    """A product to cut: the template's blocks, tiles and depths are still open."""

    template: Gemm
    m: int
    n: int
    k: int
    dtype: np.dtype
    forced_tile: tuple[int, int] | None

    @property
    def is_symmetric(self) -> bool:
        """Whether only blocks on and above the diagonal are computed: then tiles and blocks are square."""
        return isinstance(self.template, Syrk)

    def n_blocks(self, block: tuple[int, int]) -> int:
        """How many blocks of that size are computed."""
        grid = Grid((self.m, self.n), block)
        return triangle(grid.n_cols) if self.is_symmetric else grid.n_tiles


def flop_s(flops: float, dtype: np.dtype, fleet: FleetFacts) -> float:
    """Seconds of one worker for that many multiply-adds (× 2) of that dtype; complex ones count as four real ones."""
    speed = {"f4": 2.0, "c8": 0.5, "c16": 0.25, "b1": 1.6}.get(dtype.str[1:], 1.0 if dtype.kind == "f" else 0.7)
    return flops / (fleet.flops_per_s * speed)


def gemm_flops(m: int, n: int, k: int) -> int:
    """Multiplications and additions of an m×k · k×n product."""
    return 2 * m * n * k


def choose_gemm(shape: GemmShape, fleet: FleetFacts, job_target_s: float) -> GemmChoice:
    """The cheapest cut that fits in memory. Raises NeedsMemory when none does."""
    choices = list(_gemm_choices(shape, fleet))
    fitting = [choice for choice in choices if choice.peak_bytes <= fleet.memory_bytes]
    if not fitting:
        raise NeedsMemory(min(choice.peak_bytes for choice in choices))
    timely = [choice for choice in fitting if choice.job_s <= job_target_s] or [min(fitting, key=lambda c: c.job_s)]
    best_s = min(choice.makespan_s for choice in timely)
    close = (choice for choice in timely if choice.makespan_s <= 1.03 * best_s)
    return min(close, key=lambda c: (c.bytes_moved, c.makespan_s * (1 + c.again_s / c.job_s)))


def _gemm_choices(shape: GemmShape, fleet: FleetFacts) -> Iterator[GemmChoice]:
    for tile in _tiles(shape, fleet):
        grid = Grid((shape.m, shape.n), tile)
        for up, across in _block_steps(grid):
            if shape.is_symmetric and up != across:
                continue
            block = (up * tile[0], across * tile[1])
            found = [choice for depth in _panels(shape, block) for choice in _splits(shape, fleet, tile, block, depth)]
            yield from found
            if depth := _depth_between(found, fleet.memory_bytes):
                yield from _splits(shape, fleet, tile, block, depth)


def _tiles(shape: GemmShape, fleet: FleetFacts) -> Iterator[tuple[int, int]]:
    if shape.forced_tile is not None:
        yield shape.forced_tile
        return
    tile = default_tile((shape.m, shape.n), shape.dtype.itemsize)
    if shape.is_symmetric:
        tile = (min(tile), min(tile))
    yield tile
    while max(tile) > 256:
        grid = Grid((shape.m, shape.n), tile)
        is_coarse = grid.n_tiles < 4 * fleet.n_workers
        if is_coarse and grid.n_tiles and (evened := _evened(grid)) != tile:
            yield evened
        job_s = flop_s(gemm_flops(*tile, shape.k), shape.dtype, fleet)
        smallest = _peak(shape, tile, tile, min(_panels(shape, tile)))
        if (not is_coarse or job_s < MIN_SPLIT_JOB_S) and smallest <= fleet.job_bytes:
            return
        tile = _halved(_halved(tile)) if shape.is_symmetric else _halved(tile)
        yield tile


def _evened(grid: Grid) -> tuple[int, int]:
    """Tiles of about one size, for few: the largest block is what others wait for. Multiples of 8, a cache line of float64."""
    (m, n), rows, cols = grid.shape, grid.n_rows, grid.n_cols
    return min(m, ceil_div(m, 8 * rows) * 8), min(n, ceil_div(n, 8 * cols) * 8)


def _halved(tile: tuple[int, int]) -> tuple[int, int]:
    longer = 0 if tile[0] >= tile[1] else 1
    half = max(256, ceil_div(ceil_div(tile[longer], 2), 256) * 256)
    return (half, tile[1]) if longer == 0 else (tile[0], half)


def _block_steps(grid: Grid) -> Iterator[tuple[int, int]]:
    for up in STEPS:
        for across in STEPS:
            rows, cols = up * grid.tile[0], across * grid.tile[1]
            is_over = (up > 1 and up > grid.n_rows) or (across > 1 and across > grid.n_cols)
            is_stretched = (rows > 4 * cols and across < grid.n_cols) or (cols > 4 * rows and up < grid.n_rows)
            if not is_over and (not is_stretched or up == across == 1):
                yield up, across


def _panels(shape: GemmShape, block: tuple[int, int]) -> list[int]:
    """Panel depths to try: those of the operands' tiles, so that each is fetched whole and once; for files ``PANEL_BYTES``."""
    depths = set()
    widths = (min(block[0], shape.m), min(block[1], shape.n))
    for operand, axis, width in ((shape.template.a, 1, widths[0]), (shape.template.b, 0, widths[1])):
        tile = operand.matrix.tile
        by_bytes = PANEL_BYTES // max(1, width * shape.dtype.itemsize) // LEAST_PANEL * LEAST_PANEL
        depths.add(tile[_stored_axis(operand, axis)] if tile else max(LEAST_PANEL, by_bytes))
    deepest = max(depths)
    while deepest > LEAST_PANEL:  # shallower ones for workers with little memory
        deepest //= 4
        depths.add(max(LEAST_PANEL, deepest))
    depths.add(min(THIN_PANEL, *depths))
    return sorted({max(1, min(depth, shape.k)) for depth in depths})


def _depth_between(choices: list[GemmChoice], memory_bytes: int) -> int | None:
    """How deep panels may be that use the memory which the deepest of these that fit leave, where the next deeper ones do not."""
    peaks = sorted({(choice.panel_k, choice.peak_bytes) for choice in choices})
    for (fitting, least), (too_deep, most) in itertools.pairwise(peaks):
        if least <= memory_bytes < most:
            deeper = (too_deep - fitting) * (memory_bytes - least) // (most - least) // DEPTH_STEP * DEPTH_STEP
            return fitting + deeper if deeper else None
    return None


def _splits(
    shape: GemmShape, fleet: FleetFacts, tile: tuple[int, int], block: tuple[int, int], panel_k: int
) -> Iterator[GemmChoice]:
    n_blocks, peak = shape.n_blocks(block), _peak(shape, tile, block, panel_k)
    whole = _choice(shape, fleet, tile, block, panel_k, 1, peak)
    yield whole
    if 0 < n_blocks < fleet.n_workers and whole.job_s > 2 * MIN_SPLIT_JOB_S:
        n_splits = min(ceil_div(SPLIT_ROUNDS * fleet.n_workers, n_blocks), ceil_div(shape.k, panel_k))
        if n_splits > 1:
            yield _choice(shape, fleet, tile, block, panel_k, n_splits, peak)


def _choice(
    shape: GemmShape, fleet: FleetFacts, tile: tuple[int, int], block: tuple[int, int], panel_k: int, n_splits: int, peak: int
) -> GemmChoice:
    m, n, k, itemsize = shape.m, shape.n, shape.k, shape.dtype.itemsize
    rows, cols = min(block[0], m), min(block[1], n)
    split_k = ceil_div(ceil_div(k, n_splits), panel_k) * panel_k if n_splits > 1 else k
    n_splits = ceil_div(k, split_k) if n_splits > 1 else 1
    n_blocks = shape.n_blocks(block)
    a_times, b_times = _times_fetched(shape.template.a, 1, panel_k), _times_fetched(shape.template.b, 0, panel_k)
    arithmetic_s = flop_s(gemm_flops(rows, cols, split_k), shape.dtype, fleet)
    transfer_s = (a_times * rows + b_times * cols) * split_k * itemsize / fleet.bytes_per_s
    first_s = (rows + cols) * min(panel_k, split_k) * itemsize / fleet.bytes_per_s
    edges_s = first_s + _written_s(rows * cols * itemsize, shape.template.out, fleet)
    job_s = max(arithmetic_s, transfer_s) + JOB_OVERHEAD_S + ceil_div(split_k, panel_k) * PANEL_OVERHEAD_S
    again_s = _again_s(shape, rows, cols, split_k, panel_k)
    waves = ceil_div(n_blocks * n_splits, fleet.n_workers)
    added_s = (n_splits + 1) * m * n * itemsize / fleet.bytes_per_s / fleet.n_workers
    reduce_s = added_s + 2 * JOB_OVERHEAD_S if n_splits > 1 else 0.0  # one stage more
    share = n_blocks / max(1, Grid((m, n), block).n_tiles)  # of the blocks, those that are computed
    read = share * (a_times * ceil_div(n, block[1]) * m * k + b_times * ceil_div(m, block[0]) * k * n)
    moved = int(read + m * n * (2 * n_splits + 1 if n_splits > 1 else 1))
    is_alone = peak > fleet.job_bytes  # a job that has the memory alone hides no other's edges
    n_bare = waves if is_alone else 1
    fresh_s = rows * cols * itemsize * (1 if is_alone else min(waves, SLOTS)) * FRESH_S_PER_BYTE
    return GemmChoice(
        tile, block, panel_k, n_splits, split_k, peak, job_s + edges_s,
        waves * job_s + n_bare * edges_s + reduce_s + fresh_s, again_s, moved * itemsize,
    )  # fmt: skip


def _written_s(n_bytes: int, out: MatrixRef, fleet: FleetFacts) -> float:
    """How long a worker writes a block."""
    if not out.url.startswith("file:"):
        return n_bytes / fleet.bytes_per_s
    return n_bytes * max(LOCAL_WRITE / fleet.bytes_per_s, LOCAL_WRITE_S_PER_BYTE)


def _again_s(shape: GemmShape, rows: int, cols: int, depth: int, panel_k: int) -> float:
    """What local tiles cost of which a panel needs some columns: their rows are read whole for each panel."""
    again = 0
    for operand, axis, width in ((shape.template.a, 1, rows), (shape.template.b, 0, cols)):
        matrix, stored_axis = operand.matrix, _stored_axis(operand, axis)
        if matrix.tile is not None and matrix.url.startswith("file:") and matrix.layout == "raw" and stored_axis == 1:
            again += width * (ceil_div(min(matrix.tile[1], shape.k), panel_k) - 1)
    return again * depth * shape.dtype.itemsize * AGAIN_S_PER_BYTE


def _times_fetched(operand: Operand, k_axis: int, panel_k: int) -> int:
    """How often a tile comes in one pass over k: where it comes whole (to be verified, say), once for each panel in it."""
    matrix = operand.matrix
    axis = _stored_axis(operand, k_axis)
    if matrix.tile is None or (matrix.layout == "raw" and (axis == 0 or matrix.url.startswith("file:"))):
        return 1
    return ceil_div(matrix.tile[axis], panel_k)


def _stored_axis(operand: Operand, axis: int) -> int:
    """The axis of the stored matrix that is ``axis`` of op(X)."""
    return 1 - axis if operand.is_transposed else axis


def _peak(shape: GemmShape, tile: tuple[int, int], block: tuple[int, int], panel_k: int) -> int:
    out = msgspec.structs.replace(shape.template.out, shape=(shape.m, shape.n), tile=tile)
    rect = Rect(0, min(block[0], shape.m), 0, min(block[1], shape.n))
    work = msgspec.structs.replace(shape.template, out=out, rect=rect, k1=shape.k, panel_k=panel_k)
    return max(peak_bytes(msgspec.structs.replace(work, k0=k0)) for k0 in _panel_starts(shape, panel_k))


def _panel_starts(shape: GemmShape, panel_k: int) -> set[int]:
    """Where panels begin that may take most: across the end of a tile where they do not divide it, else anywhere."""
    starts = set()
    for operand, k_axis in ((shape.template.a, 1), (shape.template.b, 0)):
        if operand.matrix.tile is not None:
            depth = operand.matrix.tile[_stored_axis(operand, k_axis)]
            across = depth - panel_k // 2
            if depth % panel_k and 0 < across <= shape.k - panel_k:
                starts.add(across)
    return starts or {0}


def choose_block(out: MatrixRef, work_of: Callable[[Rect], Work], fleet: FleetFacts, n_read: int) -> tuple[tuple[int, int], int]:
    """A block for work that reads ``n_read`` elements once for each that it writes, and its peak memory.

    Some tiles beside each other: a few jobs for each worker, but where those were so short that their messages took as long.
    Raises NeedsMemory when not even one tile fits.
    """
    grid, itemsize = out.grid, np.dtype(str(out.dtype)).itemsize
    peak = _peak_across(grid, 1, work_of)
    if peak > fleet.job_bytes:
        raise NeedsMemory(peak * SLOTS)
    tile_s = (n_read + 1) * grid.tile[0] * grid.tile[1] * itemsize / fleet.bytes_per_s
    wide = (across for across in range(2, grid.n_cols + 1) if _is_enough(grid, across, across * tile_s, fleet))
    most = min(fleet.job_bytes, max(peak, WIDE_BYTES))
    fitting = itertools.takewhile(lambda across: _peak_across(grid, across, work_of) <= most, wide)
    across = min((1, *fitting), key=lambda across: (_waves(grid, across, fleet) * (JOB_OVERHEAD_S + across * tile_s), -across))
    return (grid.tile[0], across * grid.tile[1]), _peak_across(grid, across, work_of)


def _is_enough(grid: Grid, across: int, job_s: float, fleet: FleetFacts) -> bool:
    return job_s <= SHORT_JOB_S or (job_s <= LONG_JOB_S and grid.n_tiles // across >= 4 * fleet.n_workers)


def _waves(grid: Grid, across: int, fleet: FleetFacts) -> int:
    return ceil_div(grid.n_rows * ceil_div(grid.n_cols, across), fleet.n_workers)


def _peak_across(grid: Grid, across: int, work_of: Callable[[Rect], Work]) -> int:
    (m, n), (rows, cols) = grid.shape, grid.tile
    return peak_bytes(work_of(Rect(0, min(rows, m), 0, min(across * cols, n))))


def lower_bound_bytes(m: int, n: int, k: int, itemsize: int, memory_bytes: int) -> int:
    """2mnk/√S elements, in bytes, with S elements of memory; never less than touching everything once."""
    s_elements = max(1, memory_bytes // itemsize)
    return max(int(2 * m * n * k / s_elements**0.5), m * k + k * n + m * n) * itemsize
