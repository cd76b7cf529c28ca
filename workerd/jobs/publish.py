"""The last job of an operation: make the result appear under its name, whole or not at all.

An array appears with its ``zarr.json`` (in a directory: by the rename of the staged one); a file or an object when its
parts are joined. In S3, where the tiles lie in their place already, that must still be this operation's. A mark among the
operation's facts says that it was done.
"""

from __future__ import annotations

import asyncio

from tilefleet import layout, ownership
from tilefleet.dtypes import parse_dtype
from tilefleet.errors import BadInput
from tilefleet.facts import BytesFact
from tilefleet.formats.npy import header_bytes
from tilefleet.messages import Publish
from tilefleet.store import Store, path_of
from tilefleet.writing import join_parts, publish_directory, publish_zarr
from workerd.context import Context, Outcome


async def run(work: Publish, context: Context) -> Outcome:
    """Raises AlreadyExists when something else has the name and may not be replaced."""
    context.checkpoint()
    n_bytes = await (_array(work, context) if work.out.format == "zarr" else _file(work, context))
    return await context.report(BytesFact(n_bytes))


async def _array(work: Publish, context: Context) -> int:
    store = context.open(work.out.url)
    if work.staged_url is None:
        await context.commit(lambda: _in_place(store, work))
        return 0
    staging = context.open(work.staged_url)
    staged, out = path_of(work.staged_url), path_of(work.out.url)
    if staged.parent != out.parent or staged.name != f".{out.name}.partial-{work.operation}":
        raise BadInput(f"{work.staged_url} is not the staged form of {work.out.url}; nothing was moved")
    if staged.exists() or not out.exists():  # there is no directory yet when a dimension is empty
        await context.commit(lambda: publish_zarr(staging, work.out, work.operation))
    with context.clock.phase("committed"):
        await asyncio.to_thread(publish_directory, staged, out, work.operation, is_overwrite=work.is_overwrite)
    return 0


async def _in_place(store: Store, work: Publish) -> None:
    url, own = work.out.url, layout.result(work.operation)
    if not url.startswith("file:") and not url.endswith(f"/{own}"):  # a place that others may want too
        await ownership.check(store, work.operation)
    await publish_zarr(store, work.out, work.operation)


async def _file(work: Publish, context: Context) -> int:
    out = work.out
    context.locate(out.url)
    header = header_bytes(out.shape or (0, 0), parse_dtype(str(out.dtype))) if out.format == "npy" else b""
    parts_url = work.parts_url or context.facts_url
    n_bytes = await context.commit(
        lambda: join_parts(
            context.stores,
            parts_url,
            work.n_parts,
            header,
            out.url,
            operation=work.operation,
            is_overwrite=work.is_overwrite,
            is_gzip=out.is_gzip,
            checkpoint=context.checkpoint,
        )
    )
    context.clock.count("bytes_written", n_bytes)
    return n_bytes
