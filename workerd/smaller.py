"""A job in parts that need less memory, for a worker that has too little for the whole, or had.

Parts are whole tiles of the output, each written by one of them; what an earlier attempt committed is not done again.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tilefleet.footprint import peak_bytes
from tilefleet.matrix import Grid, Rect, ceil_div
from tilefleet.messages import Elementwise, Gemm, Job, Random, Reduce, Syrk, Work


def fitting(job: Job, limit_bytes: int) -> tuple[list[Work], int]:
    """The work of a job in as few parts as it is to have and as fit; and the bytes that one part takes, which are more than
    ``limit_bytes`` where nothing helps."""
    whole = job.peak_bytes if job.halvings == 0 else 0  # by the plan
    for works in _ever_smaller(job.work, job.halvings):
        n_bytes = max(whole, *map(peak_bytes, works))
        if n_bytes <= limit_bytes:
            break
        whole = 0
    return works, n_bytes


def _ever_smaller(work: Work, halvings: int) -> Iterator[list[Work]]:
    works = parts(work, halvings)
    yield works
    while (smaller := parts(work, halvings := halvings + 1)) != works:
        yield (works := smaller)


def parts(work: Work, halvings: int) -> list[Work]:
    """Works that together are the same, their sides (and panels) halved so many times; the work itself where it can't be cut."""
    if not halvings or not isinstance(work, Gemm | Reduce | Elementwise | Random) or work.out.tile is None:
        return [work]
    rects = _cut(work.rect, work.out.grid, 1 << halvings)
    if isinstance(work, Syrk) and work.rect == work.rect.transposed:
        rects = [rect for rect in rects if rect.row0 <= rect.col0]  # what is below the diagonal is written by what is above it
    if isinstance(work, Gemm):
        depth = min(work.panel_k, work.k1 - work.k0)
        work = msgspec.structs.replace(work, panel_k=max(1, depth >> halvings))
    return [msgspec.structs.replace(work, rect=rect) for rect in rects]


def _cut(rect: Rect, grid: Grid, n: int) -> list[Rect]:
    """About n × n rectangles of whole tiles; fewer where there are not as many tiles."""
    rows, cols = (_bands(*side, n) for side in ((rect.row0, rect.row1, grid.tile[0]), (rect.col0, rect.col1, grid.tile[1])))
    return [Rect(*up, *across) for up in rows for across in cols]


def _bands(start: int, end: int, tile: int, n: int) -> list[tuple[int, int]]:
    step = tile * max(1, ceil_div(end - start, tile) // n)
    return [(at, min(at + step, end)) for at in range(start, end, step)]
