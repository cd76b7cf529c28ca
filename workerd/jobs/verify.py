"""``tilefleet verify``: a stored result against its operands, read again from the store, band of rows by band of rows.

Products: op(B) is projected on check vectors first (``project``), then C·x is compared with op(A)·(op(B)·x) (``check``); what
that cannot judge, like rows with NaN, is computed again. Sums, copies and random matrices are computed again, exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial

import msgspec
import numpy as np

from tilefleet import layout
from tilefleet.dtypes import parse_dtype
from tilefleet.facts import CheckFacts
from tilefleet.footprint import RECOMPUTED
from tilefleet.matrix import Operand, Rect
from tilefleet.messages import Check, Gemm, Project
from workerd.context import Context, Outcome, prefetched
from workerd.jobs import elementwise, gemm
from workerd.kernels import elementwise as kernels
from workerd.kernels import verification
from workerd.kernels.randomness import random_block
from workerd.kernels.verification import Projection


async def project(work: Project, context: Context) -> Outcome:
    """Rows of op(B) on the check vectors, to the place where the checks will look for them."""
    band = await context.read(work.b, work.rect)
    dtype = parse_dtype(work.product_dtype)
    projection = await context.compute(partial(verification.project, band, dtype, work.seed, work.n_vectors))
    await context.put_new(work.facts_url, verification.encode_projection(projection))
    return Outcome()


async def check(work: Check, context: Context) -> Outcome:
    """What was found in the rows of ``work.rect`` of a result."""
    result = await context.read(Operand(work.result), work.rect)
    if work.product is not None:
        return await context.report(await _product_facts(work, work.product, result, context), work.facts_url)
    expected = await _computed_again(work, context)
    n_wrong, first = await context.compute(partial(kernels.count_differences, result, expected), "checked")
    return await context.report(
        CheckFacts(float("inf") if n_wrong else 0.0, n_wrong, work.rect.row0 + first if n_wrong else -1), work.facts_url
    )


async def _computed_again(work: Check, context: Context) -> np.ndarray:
    if work.elementwise is not None:
        return await elementwise.block(work.elementwise, context, work.rect)
    if work.random is None:
        raise ValueError("a check of nothing")
    again, shape = work.random, work.result.shape or (0, 0)
    dtype = parse_dtype(str(work.result.dtype))
    return await context.compute(partial(random_block, work.rect, shape, dtype, again.low, again.high, again.seed))


async def _product_facts(work: Check, product: Gemm, result: np.ndarray, context: Context) -> CheckFacts:
    if verification.is_provable(product):
        facts = await _proved(work, product, result, context)
        if facts is not None:
            return facts
    return await _recomputed(work, product, result, context)


async def _proved(work: Check, product: Gemm, result: np.ndarray, context: Context) -> CheckFacts | None:
    projection = await _projections(work, parse_dtype(product.product_dtype), context)
    judge = verification.ProductCheck(work)
    rect, step = work.rect, max(1, product.panel_k)
    starts = range(product.k0, product.k1, step)
    panels = [Rect(rect.row0, rect.row1, k, min(k + step, product.k1)) for k in starts]
    async with aclosing(prefetched([partial(context.read, product.a, panel) for panel in panels])) as arriving:
        for panel in panels:
            a = await anext(arriving)
            rows = projection.rows(slice(panel.col0 - product.k0, panel.col1 - product.k0))
            await context.compute(partial(judge.add, a, rows), "checked")
    c = await _added(product, rect, context)
    return await context.compute(partial(judge.finish, result, c), "checked")


async def _projections(work: Check, dtype: np.dtype, context: Context) -> Projection:
    urls = [layout.indexed(str(work.projections_url), index) for index in range(work.n_projections)]
    bodies = await asyncio.gather(*(context.get(url) for url in urls))
    if not bodies:  # k is 0: there was nothing to project
        return verification.project(np.empty((0, work.rect.cols), dtype), dtype, work.seed, work.n_vectors)
    return verification.join_projections([verification.decode_projection(bytes(body)) for body in bodies])


async def _recomputed(work: Check, product: Gemm, result: np.ndarray, context: Context) -> CheckFacts:
    """Block by block, so that it takes no more memory than the proof does."""
    found = CheckFacts()
    for rect in _blocks(work.rect):
        again = msgspec.structs.replace(product, rect=rect, panel_k=max(1, min(product.panel_k, RECOMPUTED[2])))
        streamed = await gemm.streamed(again, context)
        block, _ = await context.compute(streamed.finish, "checked")
        c = await _added(product, rect, context)
        stored = result[rect.slices_within(work.rect)]
        compare = partial(verification.compare_recomputed, stored, block, streamed.row_scale, product, c, rect.row0)
        found = _joined(found, await context.compute(compare, "checked"))
    return found


async def _added(product: Gemm, rect: Rect, context: Context) -> np.ndarray | None:
    if product.epilogue is None or product.epilogue.c is None:
        return None
    return await context.read(product.epilogue.c, rect)


def _blocks(rect: Rect) -> Iterator[Rect]:
    rows, cols, _ = RECOMPUTED
    for row in range(rect.row0, rect.row1, rows):
        for col in range(rect.col0, rect.col1, cols):
            yield Rect(row, min(row + rows, rect.row1), col, min(col + cols, rect.col1))


def _joined(one: CheckFacts, other: CheckFacts) -> CheckFacts:
    firsts = [first for first in (one.first_row, other.first_row) if first >= 0]
    return CheckFacts(max(one.worst, other.worst), one.mismatches + other.mismatches, min(firsts, default=-1))
