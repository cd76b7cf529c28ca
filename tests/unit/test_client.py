"""The client against a real store and real queues; the coordinator's part is played by the few objects it would write.

The fleet here is a "remote" one whose store is a directory, so that local files are far files: they are uploaded.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.conftest import ACCESS_KEY, SECRET_KEY, Server
from tilefleet import layout
from tilefleet import operation as operation_module
from tilefleet.client import Client, find_config, submitted_by
from tilefleet.config import Config, FleetSection, QueuesSection, StoreSection
from tilefleet.errors import (
    AlreadyExists,
    BadConfig,
    BadInput,
    Cancelled,
    ErrorInfo,
    NotFound,
    TilefleetError,
    Unreachable,
    WrongResult,
)
from tilefleet.lazy import LazyMatrix
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.messages import Cancel, Submit, decode_client
from tilefleet.operation import Operation
from tilefleet.records import Control, OperationRecord, OperationStatus, from_json, to_json
from tilefleet.session import DeliveryWarning
from tilefleet.sqs import SqsQueues
from tilefleet.store import file_url
from tilefleet.submission import Request
from tilefleet.writing import publish_zarr, write_tiles

A = np.arange(12.0).reshape(3, 4)
B = np.arange(8.0).reshape(4, 2)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


@pytest.fixture
def config(tmp_path: Path, fleet: str) -> Config:
    return Config(
        fleet=FleetSection(name=fleet, kind="remote"),
        store=StoreSection(url=file_url(tmp_path / "far"), allow_local_files=True),
    )


@pytest.fixture
async def queues(config: Config, moto_server: Server) -> AsyncIterator[SqsQueues]:
    settings = QueuesSection(endpoint_url=moto_server.endpoint_url)
    async with SqsQueues(settings, config.fleet.name, credentials=(ACCESS_KEY, SECRET_KEY)) as queues:
        await queues.ensure()
        yield queues


@pytest.fixture
async def client(config: Config, queues: SqsQueues, moto_server: Server) -> AsyncIterator[Client]:
    settings = QueuesSection(endpoint_url=moto_server.endpoint_url)
    async with Client(msgspec.structs.replace(config, queues=settings)) as client:
        yield client


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


async def test_submitting_arrays_writes_tiles_record_and_mark_and_sends_the_message(client: Client, queues: SqsQueues) -> None:
    operation = await client.multiply(A, B.astype(">f4"), alpha=2, command="a test")
    record = from_json(bytes(await client.session.store.get(layout.record(operation.id))), OperationRecord, "record")
    assert record == operation.record
    assert (record.kind, record.alpha, record.command, record.submitted_by) == ("multiply", "2", "a test", submitted_by())
    assert record.submit_s > 0
    assert record.a is not None
    assert record.b is not None
    assert record.a.matrix.url == client.session.store.url_of(f"staging/{operation.id}/a")
    assert np.array_equal(await LazyMatrix(client.session.stores, record.a).read(), A)
    b = await LazyMatrix(client.session.stores, record.b).read()
    assert b.dtype == np.dtype("<f4")
    assert np.array_equal(b, B)
    assert layout.open_mark(operation.id) in await keys(client, "open")
    assert await messages(queues) == [Submit(client.config.fleet.name, operation.id)]


async def test_files_of_a_far_fleets_client_are_uploaded(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    np.savetxt(tmp_path / "b.csv", B, delimiter=",")
    operation = await client.multiply("a.npy", tmp_path / "b.csv")
    record = operation.record
    assert record.a is not None
    assert record.b is not None
    assert record.a.matrix.url.startswith(client.session.store.url)
    assert np.array_equal(await LazyMatrix(client.session.stores, record.a).read(), A)
    assert record.b.matrix.shape is None
    assert operation.record.names == {"a": str(tmp_path / "a.npy"), "b": str(tmp_path / "b.csv")}
    staged = await client.session.store.get(f"staging/{operation.id}/b")
    assert bytes(staged) == (tmp_path / "b.csv").read_bytes()


async def test_a_large_file_and_a_zarr_directory_are_uploaded_whole(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zarr

    from tilefleet import staging

    monkeypatch.setattr(staging, "PIECE_BYTES", 1000)
    values = np.random.default_rng(1).random((300, 70))
    np.save(tmp_path / "a.npy", values)
    zarr.create_array(str(tmp_path / "b.zarr"), data=values, chunks=(64, 64))  # compressed: read through zarr-python
    record = (await client.add("a.npy", "b.zarr")).record
    for operand in (record.a, record.b):
        assert operand is not None
        assert operand.matrix.url.startswith(client.session.store.url)
        assert np.array_equal(await LazyMatrix(client.session.stores, operand).read(), values)


async def test_results_and_views_are_operands_without_a_copy(client: Client) -> None:
    first = await client.add(A, A)
    await finish(client, first, A + A)
    result = await first.result()
    record = (await client.multiply(first, result.T)).record
    assert record.a == result.operand
    assert record.b == result.T.operand
    assert not any(key.startswith(f"staging/{record.id}") for key in await keys(client))


async def test_bad_requests_write_nothing_and_send_nothing(client: Client, queues: SqsQueues, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    for request, kind in [
        (Request(kind="multiply", a=A, b=A), BadInput),
        (Request(kind="add", a="a.npy", b="absent.npy"), NotFound),
        (Request(kind="add", a=A, b=np.ones(4)), BadInput),
        (Request(kind="add", a=A, b="a.npy", out="c.txt"), BadInput),
        (Request(kind="add", a=A, b=object()), BadInput),
        (Request(kind="add", a=A, b=np.full((3, 4), "x")), BadInput),
        (Request(kind="add", a=A, b=A, out=client.session.store.url + "/matrices/c.zarr"), BadInput),
        (Request(kind="add", a=A, b="a.npy", out="no/such/dir/c.npy"), NotFound),
    ]:
        with pytest.raises(kind):
            await client.submit(request)
    assert await keys(client) == set()
    assert await messages(queues) == []


async def test_an_output_is_never_an_input(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", A)
    (tmp_path / "link.npy").symlink_to("a.npy")
    os.link(tmp_path / "a.npy", tmp_path / "hard.npy")
    for out in ("a.npy", "link.npy", "hard.npy", file_url(tmp_path / "a.npy"), "sub/../a.npy"):
        with pytest.raises(BadInput, match="is or overlaps the input"):
            await client.scale("a.npy", 2, out=out, overwrite=True)
    assert np.array_equal(np.load(tmp_path / "a.npy"), A)


async def test_an_output_that_exists_stays_unless_told_otherwise(client: Client, tmp_path: Path) -> None:
    (tmp_path / "c.npy").write_bytes(b"precious")
    (tmp_path / "d.zarr").mkdir()
    (tmp_path / "d.zarr" / "notes.txt").write_text("not an array")
    with pytest.raises(AlreadyExists, match="--overwrite"):
        await client.scale(A, 2, out="c.npy")
    with pytest.raises(AlreadyExists):
        await client.scale(A, 2, out="d.zarr")
    with pytest.raises(BadInput, match="without a Zarr array"):
        await client.scale(A, 2, out="d.zarr", overwrite=True)
    assert (await client.scale(A, 2, out="c.npy", overwrite=True)).save_to == file_url(tmp_path / "c.npy")


@pytest.mark.parametrize("piece_bytes", [100, 2**20])
async def test_staging_that_fails_is_withdrawn(
    client: Client, tmp_path: Path, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "b.npy", A)
    from tilefleet import staging

    monkeypatch.setattr(staging, "PIECE_BYTES", piece_bytes)
    source = await staging.ground(client.session, "b.npy", "0123456789ab", "b")
    with (tmp_path / "b.npy").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadInput, match="was changed while it was uploaded"):
        await staging.put(client.session, "0123456789ab", "b", source)
    await staging.withdraw(client.session, "0123456789ab")
    assert await keys(client) == set()


async def test_a_result_for_a_local_file_of_a_far_fleet_is_fetched_at_the_end(client: Client, tmp_path: Path) -> None:
    operation = await client.add(A, A, out="c.csv.gz")
    assert operation.record.out.url is None
    assert operation.record.names == {"out": str(tmp_path / "c.csv.gz")}
    await finish(client, operation, A + A)
    await operation.wait()
    await operation.wait()  # once more does not save once more
    assert np.array_equal(np.loadtxt(tmp_path / "c.csv.gz", delimiter=","), A + A)


async def test_a_fleet_with_its_store_in_s3(client: Client, moto_server: Server, tmp_path: Path) -> None:
    store = StoreSection(url=f"s3://{moto_server.new_bucket()}/fleet", endpoint_url=moto_server.endpoint_url)
    np.save(tmp_path / "b.npy", B)
    async with Client(msgspec.structs.replace(client.config, store=store)) as far:
        operation = await far.multiply(A, "b.npy", out="c.npy")
        b = operation.record.b
        assert b is not None
        assert b.matrix.url == f"{store.url}/staging/{operation.id}/b"
        assert np.array_equal(await LazyMatrix(far.session.stores, b).read(), B)
        await finish(far, operation, A @ B)
        await operation.wait()
        assert np.array_equal(np.load(tmp_path / "c.npy"), A @ B)
        assert np.array_equal(np.asarray((await operation.result()).to_zarr()[:]), A @ B)
        for name in ("c.npy", "c.zarr"):
            out = f"{store.url}/mine/{name}"
            assert await operation.save(out) == out
            assert np.array_equal(await (await far.open(out)).read(), A @ B)
            with pytest.raises(AlreadyExists):
                await operation.save(out)
            await operation.save(out, overwrite=True)
        with pytest.raises(AlreadyExists):
            await far.scale(A, 2, out=f"{store.url}/mine/c.zarr")
        await far.scale(A, 2, out=f"{store.url}/mine/c.zarr", overwrite=True)
        left = [entry.key async for entry in far.session.store.entries("mine")]
        assert sorted(left) == ["mine/c.npy", "mine/c.zarr/tilefleet/owner/000003"], "the old tiles are removed first"
        await operation.delete()
        operations = {key.split("/")[0] for key in await keys(far) if operation.id in key}
        assert not operations


async def test_progress_yields_each_change_and_believes_the_highest_epoch(client: Client) -> None:
    operation = await client.add(A, A)
    assert await operation.status() is None
    await write_status(client, operation.id, "queued")
    seen = []
    async for status in operation.progress():
        seen.append((status.epoch, status.state))
        if status.state == "queued":
            await write_status(client, operation.id, "running", epoch=2)
            await write_status(client, operation.id, "done", epoch=1)  # a stale leader's word
        else:
            await write_status(client, operation.id, "done", epoch=2)
    assert seen == [(1, "queued"), (2, "running"), (2, "done")]


@pytest.mark.parametrize("code", ["bad_input", "does_not_fit", "operation_failed", "wrong_result"])
async def test_wait_raises_the_operations_own_error(client: Client, code: str) -> None:
    operation = await client.add(A, A)
    await write_status(client, operation.id, "failed", error=ErrorInfo(code, "the sentence"))
    with pytest.raises(TilefleetError, match="the sentence") as caught:
        await operation.wait()
    assert caught.value.code == code
    with pytest.raises(type(caught.value)):
        await operation.result()


async def test_waiting_ends_when_no_coordinator_is_heard(client: Client) -> None:
    operation = await client.add(A, A)
    client.session.silence_s = 0.05
    with pytest.raises(Unreachable, match="no coordinator was heard"):
        await operation.wait()


async def test_beacons_keep_a_wait_alive_whatever_their_clock_says(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(operation_module, "time", SimpleNamespace(monotonic=lambda: now))
    watch = operation_module.Watch(client.session, (await client.add(A, A)).id)
    for at in (1e9, 5.0, 5.1):  # a stand-by whose clock is years behind has taken over
        beacon = Control(epoch=1, at=at, fleet="x", leader="me", version="0")
        await client.session.store.put(layout.control(1), to_json(beacon))
        now += 50
        await watch.check()
    assert await client.control() == beacon
    now += 50
    await watch.check()
    now += 50
    with pytest.raises(Unreachable, match="no coordinator was heard for 60 s"):
        await watch.check()


async def test_a_change_on_this_machine_ends_a_pause(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = await client.multiply(A, B)
    for name in ("FIRST_DELAY_S", "LAST_DELAY_S"):
        monkeypatch.setattr(operation_module, name, 3600.0)
    watch = operation_module.Watch(client.session, operation.id)
    pause = asyncio.create_task(watch.pause())
    await asyncio.sleep(0.05)
    assert not pause.done()
    await finish(client, operation, A @ B)
    async with asyncio.timeout(30):
        await pause


async def test_waiting_ends_when_the_operation_is_deleted(client: Client) -> None:
    operation = await client.add(A, A)
    client.session.silence_s = 5
    await operation.cancel()
    await operation.delete()
    with pytest.raises(NotFound, match="was deleted"):
        await operation.wait()


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


async def test_random_needs_nothing_but_its_spec(client: Client) -> None:
    spec = (await client.random((3, 4), dtype="int8", seed=7)).record.random
    assert spec is not None
    assert (spec.shape, spec.dtype, spec.low, spec.high, spec.seed) == ((3, 4), "int8", "0", "10", 7)


async def test_a_message_that_cannot_be_sent_does_not_lose_the_operation(client: Client, moto_server: Server) -> None:
    import boto3

    await client.connect()
    sqs = boto3.client("sqs", endpoint_url=moto_server.endpoint_url, region_name="us-east-1")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=f"{client.config.fleet.name}-operations")["QueueUrl"])
    with pytest.warns(DeliveryWarning, match="will find it later"):
        operation = await client.add(A, A)
    assert (await client.find(operation.id)).record == operation.record


async def test_queues_that_are_not_there_are_named_before_anything_is_written(config: Config, moto_server: Server) -> None:
    absent = msgspec.structs.replace(config, queues=QueuesSection(endpoint_url=moto_server.endpoint_url))
    async with Client(absent) as client:
        with pytest.raises(NotFound, match=config.fleet.name):
            await client.add(A, A)
        assert await keys(client) == set()


async def test_reading_needs_no_deployment(tmp_path: Path) -> None:
    async with Client(Config()) as client:
        assert await client.operations() == []
        assert await client.control() is None
        with pytest.raises(NotFound):
            await client.find("last")
        np.save(tmp_path / "a.npy", A)
        assert (await client.inspect("a.npy")).shape == (3, 4)
        assert np.array_equal(await client.head("a.npy", 2, 3), A[:2, :3])
        assert np.array_equal(np.asarray(await client.open(tmp_path / "a.npy")), A)
        assert np.array_equal(await client.head((await client.open("a.npy")).T, 2, 9), A.T[:2])
        with pytest.raises(BadInput, match="columns of the first"):  # and neither does a refusal
            await client.multiply("a.npy", "a.npy")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz"])
async def test_the_head_and_the_size_of_a_csv(tmp_path: Path, name: str) -> None:
    values = np.arange(3000.0).reshape(1000, 3) + 0.5
    np.savetxt(tmp_path / name, values, delimiter=",", fmt="%.1f")
    async with Client(Config()) as client:
        assert np.array_equal(await client.head(name, 4, 2), values[:4, :2])
        assert np.array_equal(await client.head(name, 2000, 9), values)
        assert (await client.inspect(name)).shape is None
        ref = await client.inspect(name, scan=True)
        assert (ref.shape, ref.dtype) == ((1000, 3), "float64")


async def test_a_csv_that_is_none_says_where(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("1,2\n3,4\n\n5,x\n")
    async with Client(Config()) as client:
        assert (await client.head("m.csv", 2, 2)).tolist() == [[1, 2], [3, 4]]
        for look in (client.head("m.csv", 3, 2), client.inspect("m.csv", scan=True)):
            with pytest.raises(BadInput, match=r"m\.csv, line 4, column 2: 'x' is not a number"):
                await look


def test_a_script_that_ends_right_after_its_last_answer_ends_well(tmp_path: Path) -> None:
    script = """
import asyncio, tilefleet
async def main():
    async with tilefleet.Client(tilefleet.Config()) as client:
        for index in range(5):
            await client.session.store.put(f"key{index}", bytes(100_000))
        await client.session.store.get("key1")
asyncio.run(main())
"""
    for _ in range(5):  # without the pause at exit, one in five aborts
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=tmp_path)


def test_the_config_that_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config() == Config()
    for name in ("tilefleet", "other", "third"):
        (tmp_path / f"{name}.toml").write_text(f'[fleet]\nname = "{name}"\n')
    assert find_config().fleet.name == "tilefleet"
    monkeypatch.setenv("TILEFLEET_CONFIG", "other.toml")
    assert find_config().fleet.name == "other"
    assert find_config("third.toml").fleet.name == "third"
    with pytest.raises(BadConfig, match=r"absent\.toml"):
        find_config("absent.toml")
