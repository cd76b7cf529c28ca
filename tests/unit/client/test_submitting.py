"""What a submission writes and sends, and what it does not when it cannot go through; against a real store and real queues."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.conftest import Server
from tests.unit.client.played import A, B, finish, keys, messages
from tilefleet import layout
from tilefleet.client import Client, submitted_by
from tilefleet.config import Config, QueuesSection, StoreSection
from tilefleet.errors import AlreadyExists, BadInput, NotFound
from tilefleet.lazy import LazyMatrix
from tilefleet.messages import Submit
from tilefleet.records import OperationRecord, from_json
from tilefleet.session import DeliveryWarning
from tilefleet.sqs import SqsQueues
from tilefleet.store import file_url
from tilefleet.submission import Request


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
