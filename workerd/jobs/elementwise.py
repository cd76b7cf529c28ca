"""``C[rows, cols] = f * op(X) ± g * op(Y)``: add, subtract, scale, transpose, and copying between layouts and types."""

from __future__ import annotations

import asyncio
from functools import partial

import numpy as np

from tilefleet.dtypes import parse_dtype, parse_scalar
from tilefleet.matrix import Rect
from tilefleet.messages import Elementwise
from workerd.context import Context, Outcome
from workerd.kernels import elementwise


async def run(work: Elementwise, context: Context) -> Outcome:
    """Compute and commit one block."""
    await context.write(work.out, work.rect, await block(work, context, work.rect))
    return Outcome()


async def block(work: Elementwise, context: Context, rect: Rect) -> np.ndarray:
    """``rect`` of the result, in the dtype of ``work.out``."""
    arrays = await asyncio.gather(*(context.read(term.operand, rect) for term in work.terms))
    factors = [None if term.factor is None else parse_scalar(term.factor) for term in work.terms]
    terms = list(zip(factors, arrays, strict=True))
    context.clock.count("flops", rect.size * (len(terms) - 1 + sum(factor is not None for factor in factors)))
    return await context.compute(partial(elementwise.combine, terms, work.is_subtraction, parse_dtype(str(work.out.dtype))))
