"""A band of rows of a matrix, encoded as npy elements or CSV lines, to one part object; ``publish`` joins the parts."""

from __future__ import annotations

from tilefleet.facts import BytesFact
from tilefleet.matrix import Operand
from tilefleet.messages import Export
from tilefleet.writing import encode_band
from workerd.context import Context, Outcome


async def run(work: Export, context: Context) -> Outcome:
    """Encode and commit one part."""
    band = await context.read(Operand(work.source), work.rect)
    data = await context.compute(lambda: encode_band(band, work.format))
    await context.put_new(work.part_url, data)
    return Outcome(BytesFact(memoryview(data).nbytes))
