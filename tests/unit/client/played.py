"""The coordinator's part, played by the few objects it would write; and what lies in the store and the queues."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilefleet import layout
from tilefleet.client import Client
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.messages import decode_client
from tilefleet.operation import Operation
from tilefleet.records import OperationStatus, to_json
from tilefleet.sqs import SqsQueues
from tilefleet.writing import publish_zarr, write_tiles

A = np.arange(12.0).reshape(3, 4)
B = np.arange(8.0).reshape(4, 2)


async def write_status(client: Client, operation: str, state: Any, *, epoch: int = 1, **fields: Any) -> None:
    status = OperationStatus(id=operation, state=state, epoch=epoch, **fields)
    await client.session.store.put(layout.status(operation, epoch), to_json(status))


async def finish(client: Client, operation: Operation, values: np.ndarray) -> None:
    """As the coordinator does it: tiles, zarr.json, then the status."""
    url = client.session.store.url_of(layout.result(operation.id))
    ref = MatrixRef(url, "zarr", (values.shape[0], values.shape[1]), values.dtype.name, (2, 2), is_ours=True)
    store = client.session.stores.open(url)
    await write_tiles(store, ref, Rect(0, values.shape[0], 0, values.shape[1]), values)
    await publish_zarr(store, ref, operation.id)
    await write_status(client, operation.id, "done", result=ref)


async def messages(queues: SqsQueues) -> list[Any]:
    return [decode_client(one.body) for one in await queues.operations.receive(10, 0)]


async def keys(client: Client, prefix: str = "") -> set[str]:
    return {entry.key async for entry in client.session.store.entries(prefix)}
