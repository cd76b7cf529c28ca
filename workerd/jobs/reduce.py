"""``C[rows, cols] = epilogue(Σ_p part_p[rows, cols])``: partial products added in the order of k, the same every time."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial

import msgspec
import numpy as np

from tilefleet.matrix import Operand
from tilefleet.messages import Reduce
from workerd.context import Context, Outcome, prefetched
from workerd.jobs.gemm import apply_epilogue


async def run(work: Reduce, context: Context) -> Outcome:
    """Add up and commit one block."""
    reads = [partial(context.read, _part(work, index), work.rect) for index in range(work.n_parts)]
    total: np.ndarray | None = None
    async with aclosing(prefetched(reads)) as parts:
        async for part in parts:
            total = await context.compute(partial(_add, total, part))
    if total is None:
        raise ValueError("a reduction of no parts")
    context.clock.count("flops", (work.n_parts - 1) * work.rect.size)
    await context.write(work.out, work.rect, await apply_epilogue(work.epilogue, total, work.rect, context))
    return Outcome()


def _part(work: Reduce, index: int) -> Operand:
    return Operand(msgspec.structs.replace(work.parts, url=f"{work.parts.url.rstrip('/')}/{index}"))


def _add(total: np.ndarray | None, part: np.ndarray) -> np.ndarray:
    """Integers wrap and bools are or-ed, as in the product itself."""
    return part.copy() if total is None else np.add(total, part, out=total)
