"""From a job to the code that does it; and, before that, whether it was done already.

A job is done when its output keys exist: a repeated one is completed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tilefleet.facts import BytesFact, decode_facts
from tilefleet.matrix import MatrixRef, Rect, tile_key
from tilefleet.messages import (
    Check,
    Elementwise,
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
    Work,
)
from workerd.context import Context, Outcome
from workerd.jobs import csv, elementwise, export, gemm, publish, randomness, reduce, verify

Run = Callable[[Any, Context], Awaitable[Outcome]]

_RUN: dict[type, Run] = {
    Gemm: gemm.run,
    Syrk: gemm.run,
    Reduce: reduce.run,
    Elementwise: elementwise.run,
    Random: randomness.run,
    Gunzip: csv.gunzip,
    ScanCsv: csv.scan,
    ParseCsv: csv.parse,
    Export: export.run,
    Publish: publish.run,
    Project: verify.project,
    Check: verify.check,
}


async def run(work: Work, context: Context) -> Outcome:
    """Do it, unless its output is there. Raises a TilefleetError that says what is wrong."""
    done = await context.patiently(lambda: _done_before(work, context))
    return done if done is not None else await _RUN[type(work)](work, context)


async def _done_before(work: Work, context: Context) -> Outcome | None:
    match work:
        case Gemm():
            return Outcome() if all([await _has_tiles(work.out, rect, context) for rect in work.outputs]) else None
        case Reduce() | Elementwise() | Random() | ParseCsv():
            return Outcome() if await _has_tiles(work.out, work.rect, context) else None
        case Export():
            return await _known_size(work.part_url, context)
        case Project():
            return Outcome() if await context.exists(work.facts_url) else None
        case ScanCsv() | Check():
            return await _known_facts(work.facts_url, context)
        case Gunzip() | Publish():
            return await _known_facts(context.facts_url, context)


async def _has_tiles(out: MatrixRef, rect: Rect, context: Context) -> bool:
    """The first tile is asked for alone: for a new job that is one request, and the answer is no."""
    store = context.open(out.url)
    keys = [tile_key(i, j) for i, j in out.grid.tiles_in(rect)]
    if not keys or await store.head(keys[0]) is None:
        return not keys
    return all(await asyncio.gather(*(store.head(key) for key in keys)))


async def _known_size(url: str, context: Context) -> Outcome | None:
    store, key = context.locate(url)
    entry = await store.head(key)
    return None if entry is None else Outcome(BytesFact(entry.size_bytes))


async def _known_facts(url: str, context: Context) -> Outcome | None:
    if not await context.exists(url):
        return None
    return Outcome(decode_facts(bytes(await context.get(url))))
