"""``C[rows, cols]`` uniform in [low, high), the same for a seed whatever the tiles and the fleet."""

from __future__ import annotations

from functools import partial

from tilefleet.dtypes import parse_dtype
from tilefleet.messages import Random
from workerd.context import Context, Outcome
from workerd.kernels.randomness import random_block


async def run(work: Random, context: Context) -> Outcome:
    """Generate and commit one block."""
    shape, dtype = work.out.grid.shape, parse_dtype(str(work.out.dtype))
    block = await context.compute(partial(random_block, work.rect, shape, dtype, work.low, work.high, work.seed))
    await context.write(work.out, work.rect, block)
    return Outcome()
