"""``C[rows, cols] = alpha * (op(A)[rows, k0:k1] @ op(B)[k0:k1, cols]) + beta * op(C)``: one block, k streamed in panels.

Two sets of panel buffers, or one for one panel: while one is multiplied, the other is filled. Each tile of the block is
written once, at the end, after the check.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from functools import partial

import numpy as np

from tilefleet.dtypes import kind_of, parse_dtype, parse_scalar
from tilefleet.matrix import Rect
from tilefleet.messages import Epilogue, Gemm, Syrk
from tilefleet.threads import in_thread
from workerd.context import Context, Outcome, prefetched
from workerd.kernels import elementwise
from workerd.kernels.product import BlockProduct, mirror


async def run(work: Gemm, context: Context) -> Outcome:
    """Compute, check and commit one block. Raises WrongResult when the check fails; nothing is written then.

    Of a symmetric product, its transpose across the diagonal too; exactly symmetric, as in NumPy.
    """
    memory = context.spares.take(work.rect.size, parse_dtype(work.product_dtype)) if kind_of(work.product_dtype) in "fc" else None
    product = await streamed(work, context, memory)
    block, worst = await context.compute(product.finish, "checked")
    block = await apply_epilogue(work.epilogue, block, work.rect, context)
    if isinstance(work, Syrk) and len(work.outputs) == 1:
        await context.compute(partial(mirror, block))
    for rect in work.outputs:
        await context.write(work.out, rect, block if rect == work.rect else block.T)
    if memory is not None:
        context.spares.leave(memory)
    return Outcome(check_worst=worst)


async def streamed(work: Gemm, context: Context, memory: np.ndarray | None = None) -> BlockProduct:
    """The product of ``work.rect``, all its panels added, not finished yet. ``memory``: as of ``BlockProduct``."""
    rect = work.rect
    a_dtype, b_dtype, dtype = (parse_dtype(str(n)) for n in (work.a.matrix.dtype, work.b.matrix.dtype, work.product_dtype))
    depth = work.k1 - work.k0
    product = await in_thread(BlockProduct, rect.rows, rect.cols, depth, a_dtype, b_dtype, dtype, context.seed, memory=memory)
    panel_k, take = max(1, min(work.panel_k, depth)), context.spares.take
    starts = range(work.k0, work.k1, panel_k)
    buffers = [(take(rect.rows * panel_k, a_dtype), take(panel_k * rect.cols, b_dtype)) for _ in starts[:2]]
    fetches = [partial(_fetch, work, context, (k, min(k + panel_k, work.k1)), buffers[n % 2]) for n, k in enumerate(starts)]
    async with aclosing(prefetched(fetches)) as panels:
        async for a, b in panels:
            await context.compute(partial(product.add, a, b))
    for buffer in itertools.chain(*buffers):
        context.spares.leave(buffer)
    context.clock.count("flops", 2 * rect.size * depth * (4 if dtype.kind == "c" else 1))
    return product


async def apply_epilogue(epilogue: Epilogue | None, block: np.ndarray, rect: Rect, context: Context) -> np.ndarray:
    """``alpha * block + beta * op(C)[rect]``, promoted step by step; the block itself when there is no epilogue."""
    if epilogue is None:
        return block
    c = await context.read(epilogue.c, rect) if epilogue.c is not None else None
    alpha = None if epilogue.alpha is None else parse_scalar(epilogue.alpha)
    beta = None if epilogue.beta is None else parse_scalar(epilogue.beta)
    return await context.compute(lambda: elementwise.epilogue(block, alpha, beta, c))


async def _fetch(
    work: Gemm, context: Context, ks: tuple[int, int], buffers: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A[rows, ks] and B[ks, cols]."""
    a, b = await asyncio.gather(
        context.read(work.a, Rect(work.rect.row0, work.rect.row1, *ks), buffers[0]),
        context.read(work.b, Rect(*ks, work.rect.col0, work.rect.col1), buffers[1]),
    )
    return a, b
