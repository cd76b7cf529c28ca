"""CSV comes in: unpacked, looked at in ranges of bytes, then parsed in bands of rows into tiles."""

from __future__ import annotations

from tilefleet.facts import BytesFact
from tilefleet.formats import csv_reading
from tilefleet.messages import Gunzip, ParseCsv, ScanCsv
from workerd.context import Context, Outcome


async def gunzip(work: Gunzip, context: Context) -> Outcome:
    """One compressed file to a plain one; how long that is."""
    source, source_key = context.locate(work.source.url)
    out, out_key = context.locate(work.out.url)
    context.checkpoint()
    n_bytes = await context.commit(lambda: csv_reading.gunzip(source, source_key, out, out_key))
    context.clock.count("bytes_read", work.source.size_bytes)
    context.clock.count("bytes_written", n_bytes)
    return await context.report(BytesFact(n_bytes))


async def scan(work: ScanCsv, context: Context) -> Outcome:
    """Rows per piece, columns and the widest type of a range of bytes."""
    store, key = context.locate(work.source.url)
    context.checkpoint()
    facts = await context.fetch(lambda: csv_reading.scan_csv(store, key, work))
    context.clock.count("bytes_read", work.byte1 - work.byte0)
    return await context.report(facts, work.facts_url)


async def parse(work: ParseCsv, context: Context) -> Outcome:
    """A band of rows to tiles."""
    store, key = context.locate(work.source.url)
    context.checkpoint()
    block = await context.fetch(lambda: csv_reading.parse_csv(store, key, work))
    context.clock.count("bytes_read", work.byte1 - work.byte0)
    await context.write(work.out, work.rect, block)
    return Outcome()
