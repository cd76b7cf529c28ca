"""Results, cancelling, deleting, finding and verifying what was submitted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.unit.client.played import A, B, finish, keys, messages, write_status
from tilefleet import layout
from tilefleet.client import Client, submitted_by
from tilefleet.errors import BadInput, Cancelled, ErrorInfo, NotFound, WrongResult
from tilefleet.messages import Cancel
from tilefleet.records import OperationRecord, to_json
from tilefleet.sqs import SqsQueues


async def test_results(client: Client) -> None:
    operation = await client.multiply(A, B)
    with pytest.raises(BadInput, match="has no result yet"):
        await operation.result()
    await finish(client, operation, A @ B)
    result = await operation.result()
    assert np.array_equal(np.asarray(result), A @ B)
    await client.session.store.delete_prefix(layout.result(operation.id))
    with pytest.raises(NotFound, match="was removed"):
        await operation.result()


async def test_cancelling_is_written_and_sent(client: Client, queues: SqsQueues) -> None:
    operation = await client.add(A, A)
    await operation.cancel()
    await operation.cancel()
    assert layout.cancel(operation.id) in await keys(client, "operations")
    assert Cancel(client.config.fleet.name, operation.id) in await messages(queues)
    await write_status(client, operation.id, "cancelled")
    with pytest.raises(Cancelled):
        await operation.wait()


async def test_deleting_removes_everything_of_an_ended_operation_and_nothing_else(client: Client) -> None:
    other = await client.add(A, A)
    before = await keys(client)
    operation = await client.multiply(A, B)
    with pytest.raises(BadInput, match="cancel it first"):
        await operation.delete()
    await finish(client, operation, A @ B)
    await operation.delete()
    assert await keys(client) == before
    with pytest.raises(NotFound):
        await client.find(operation.id)
    assert (await client.find(other.id[:11])).record == other.record


async def test_what_an_open_operation_reads_is_not_deleted(client: Client) -> None:
    operation = await client.multiply(A, B)
    await finish(client, operation, A @ B)
    await client.session.store.delete([layout.open_mark(operation.id)])
    reader = await client.scale(operation, 2)
    unrelated = await client.add(A, A)
    with pytest.raises(BadInput, match=f"operation {reader.id} reads the result of operation {operation.id}"):
        await operation.delete()
    assert np.array_equal(await (await operation.result()).read(), A @ B)
    await client.session.store.delete([layout.open_mark(reader.id)])  # as at its end
    checking = await client.verify(operation)
    with pytest.raises(BadInput, match=checking.id):
        await operation.delete()
    await write_status(client, checking.id, "done")  # its mark goes a little later
    await operation.delete()
    assert not [key for key in await keys(client) if operation.id in key]
    assert layout.open_mark(unrelated.id) in await keys(client)


async def test_finding_by_prefix(client: Client) -> None:
    ids = ("0123456789ab", "0123zzzzzzzz", "zzzz00000000")
    for number, name in enumerate(ids):
        record = OperationRecord(id=name, kind="add", submitted_at=float(number), submitted_by=submitted_by())
        await client.session.store.put(layout.record(name), to_json(record))
    await write_status(client, ids[1], "running")
    assert (await client.find("z")).id == ids[2]
    assert (await client.find("01234")).id == ids[0]
    with pytest.raises(BadInput, match="0123456789ab, 0123zzzzzzzz"):
        await client.find("0123")
    with pytest.raises(NotFound, match="no operation 99"):
        await client.find("99")
    for nonsense in ("", "../../etc", "lastly", "x" * 13):
        with pytest.raises(BadInput, match="not an operation id"):
            await client.find(nonsense)
    assert [(record.id, status and status.state) for record, status in await client.operations()] == [
        (ids[2], None),
        (ids[1], "running"),
        (ids[0], None),
    ]


async def test_last_is_the_newest_from_here(client: Client, state: Path) -> None:
    with pytest.raises(NotFound, match="no 'last'"):
        await client.find("last")
    first, second = await client.add(A, A), await client.scale(A, 2)
    assert (await client.find("last")).id == second.id
    await second.cancel()
    await second.delete()
    assert (await client.find("last")).id == first.id
    foreign = OperationRecord(id="zzzz00000000", kind="add", submitted_at=time.time() + 9, submitted_by="someone@else")
    await client.session.store.put(layout.record(foreign.id), to_json(foreign))
    assert (await client.find("last")).id == first.id


async def test_verifying_refers_to_operands_and_result(client: Client) -> None:
    operation = await client.multiply(A, B)
    with pytest.raises(BadInput, match="no result to verify"):
        await client.verify(operation)
    await finish(client, operation, A @ B)
    check = await client.verify("last")
    assert (check.record.kind, check.record.verifies, check.record.a) == ("verify", operation.id, operation.record.a)
    assert check.record.checked == (await operation.result()).ref
    await write_status(client, check.id, "failed", error=ErrorInfo("wrong_result", "3 elements differ"))
    with pytest.raises(WrongResult):
        await check.wait()
