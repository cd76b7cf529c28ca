"""Several who want one OUT.zarr in S3: one gets it, whole; the others learn of it; nobody touches what is another's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zarr
from zarr.storage import ObjectStore

from coordinator.core.commands import CleanUp
from coordinator.runtime.journal import Journal
from tests.conftest import Server
from tilefleet import layout, ownership
from tilefleet.client import Client
from tilefleet.config import Config, FleetSection, QueuesSection, StoreSection
from tilefleet.errors import AlreadyExists
from tilefleet.lazy import LazyMatrix
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Job, Publish
from tilefleet.operation import Operation
from tilefleet.ownership import Owner
from tilefleet.reading import Reader
from tilefleet.saving import save
from tilefleet.sqs import SqsQueues
from tilefleet.store import Store, Stores, settle
from tilefleet.writing import join_parts, publish_zarr, write_tiles
from workerd.compute import Compute
from workerd.context import Context, Surroundings
from workerd.jobs import dispatch
from workerd.spares import Spares

A = np.arange(12.0).reshape(3, 4)
WHOLE = Rect(0, 3, 0, 4)
FIRST, SECOND = "0000000000f1", "0000000000f2"


class Scene:
    """A bucket with a fleet's store and OUT in it."""

    def __init__(self, stores: Stores, bucket: str) -> None:
        self.stores = stores
        self.fleet: Store = stores.open(f"s3://{bucket}/fleet")
        self.out: Store = stores.open(f"s3://{bucket}/user/out.zarr")
        self.ref = MatrixRef(self.out.url, "zarr", (3, 4), "float64", (2, 2), is_ours=True)

    async def claim(self, operation: str, *, is_overwrite: bool = False) -> None:
        """As the client does it."""
        await self.fleet.put_new(layout.open_mark(operation), b"")
        await ownership.claim(self.stores, self.out, Owner(operation, self.fleet.url), is_overwrite=is_overwrite)

    async def end(self, operation: str) -> None:
        await self.fleet.delete([layout.open_mark(operation)])

    def context(self, operation: str) -> Context:
        around = Surroundings(self.stores, self.fleet.url, Reader(self.stores), Compute(), False, 4, Spares())
        return Context(Job("fleet", operation, "publish", 0, 0, 1, 0, Publish(self.ref, operation)), around)

    async def publish(self, operation: str) -> None:
        """As a worker does it."""
        await dispatch.run(Publish(self.ref, operation), self.context(operation))

    async def clean_up(self, operation: str) -> None:
        """As the coordinator does it after a failure."""
        await Journal(self.fleet, self.stores, 1).clean_up(CleanUp(operation, keeps_result=False, urls=(self.out.url,)))

    async def array(self) -> np.ndarray:
        return await Reader(self.stores).read(self.ref, WHOLE)

    async def keys(self) -> list[str]:
        return sorted([entry.key async for entry in self.out.entries()])


@pytest.fixture
def settings(moto_server: Server) -> StoreSection:
    return StoreSection(url=f"s3://{moto_server.new_bucket()}/fleet", endpoint_url=moto_server.endpoint_url)


@pytest.fixture
async def scene(settings: StoreSection) -> AsyncIterator[Scene]:
    yield Scene(Stores(settings), settings.url.split("/")[2])
    await settle()


@pytest.fixture
async def clients(
    settings: StoreSection, moto_server: Server, fleet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Client, Client]]:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path))
    queues = QueuesSection(endpoint_url=moto_server.endpoint_url)
    config = Config(fleet=FleetSection(name=fleet, kind="remote"), store=settings, queues=queues)
    async with SqsQueues(queues, fleet) as made:
        await made.ensure()
        async with Client(config) as one, Client(msgspec.structs.replace(config)) as other:
            yield one, other


# ---- claiming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_overwrite", [False, True])
async def test_of_two_clients_at_once_exactly_one_gets_the_place(
    clients: tuple[Client, Client], scene: Scene, is_overwrite: bool
) -> None:
    calls = (client.random((3, 4), out=scene.out.url, overwrite=is_overwrite) for client in clients)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    (won,) = [answer for answer in answers if isinstance(answer, Operation)]
    (lost,) = [answer for answer in answers if isinstance(answer, BaseException)]
    assert isinstance(lost, AlreadyExists)
    assert str(lost) == (
        f"{scene.out.url} is being written by operation {won.id}; wait for it, cancel it, or choose another name"
    )
    assert await scene.keys() == ["tilefleet/owner/000001"]
    left = {entry.key async for entry in scene.fleet.entries()}
    assert left == {layout.open_mark(won.id), layout.record(won.id)}, "nothing is left of the one that lost"
    with pytest.raises(AlreadyExists, match=won.id):
        await clients[0].random((3, 4), out=scene.out.url, overwrite=True)


async def test_many_claims_at_once_and_one_after_the_other(scene: Scene) -> None:
    for round_ in range(3):
        names = [f"{round_}{n}" for n in range(8)]
        answers = await asyncio.gather(*(scene.claim(name, is_overwrite=True) for name in names), return_exceptions=True)
        (winner,) = [name for name, answer in zip(names, answers, strict=True) if answer is None]
        assert (await ownership.newest(scene.out)).is_of(winner)
        assert await scene.keys() == [layout.owner(round_ + 1)], "older ones are gone, and numbers grow"
        await scene.end(winner)


async def test_what_is_there_stays_without_overwrite(scene: Scene) -> None:
    await scene.out.put("c/0/0", b"somebody's")
    with pytest.raises(AlreadyExists, match="exists already; choose another name, or replace it with --overwrite"):
        await scene.claim(FIRST)
    assert await scene.keys() == ["c/0/0"]
    await scene.claim(FIRST, is_overwrite=True)
    assert await scene.keys() == ["tilefleet/owner/000001"]


async def test_a_late_reader_of_the_list_does_not_win(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw no owner; two came, and the first one's mark of ownership is gone already."""
    before = await ownership.check_free(scene.stores, scene.out, is_overwrite=True)
    for operation in ("a", "b"):
        await scene.claim(operation, is_overwrite=True)
        await scene.end(operation)

    async def as_before(*_: object, **__: object) -> ownership.Owned:
        return before

    monkeypatch.setattr(ownership, "check_free", as_before)
    with pytest.raises(AlreadyExists, match="by operation b"):
        await scene.claim(FIRST, is_overwrite=True)
    assert await scene.keys() == ["tilefleet/owner/000002"]


# ---- publishing -----------------------------------------------------------------------------------------------------


async def test_only_the_owner_publishes_and_may_do_so_twice(scene: Scene) -> None:
    await scene.claim(FIRST)
    await write_tiles(scene.out, scene.ref, WHOLE, A, operation=FIRST)
    with pytest.raises(AlreadyExists, match=f"taken over by operation {FIRST}; operation {SECOND} does not publish"):
        await scene.publish(SECOND)
    assert "zarr.json" not in await scene.keys()
    await scene.publish(FIRST)
    await scene.publish(FIRST)
    opened = zarr.open_array(ObjectStore(scene.out.backend), path=scene.out.prefix, mode="r")
    np.testing.assert_array_equal(np.asarray(opened[:]), A, "zarr-python does not mind the mark of ownership")


async def test_an_owner_that_was_removed_publishes_nothing(scene: Scene) -> None:
    await scene.claim(FIRST)
    await scene.out.delete_prefix("")
    with pytest.raises(AlreadyExists, match="taken over by somebody who removed what was there"):
        await scene.publish(FIRST)
    assert await scene.keys() == []


async def test_metadata_of_another_operation_is_no_success(scene: Scene) -> None:
    await publish_zarr(scene.out, scene.ref, FIRST)
    await publish_zarr(scene.out, scene.ref, FIRST)
    with pytest.raises(AlreadyExists):
        await publish_zarr(scene.out, scene.ref, SECOND)


async def test_tiles_that_a_former_owner_was_late_with_are_replaced(scene: Scene) -> None:
    await scene.claim(FIRST)
    await scene.clean_up(FIRST)
    await scene.claim(SECOND)
    await scene.context(FIRST).write(scene.ref, Rect(0, 2, 0, 4), A[:2] + 100)  # its worker did not hear of the end
    await scene.context(SECOND).write(scene.ref, WHOLE, A)
    with pytest.raises(AlreadyExists, match=f"taken over by operation {SECOND}"):
        await scene.context(FIRST).write(scene.ref, Rect(2, 3, 0, 4), A[2:] + 100)
    await scene.publish(SECOND)
    np.testing.assert_array_equal(await scene.array(), A)
    await scene.context(SECOND).write(scene.ref, WHOLE, A + 1e-9)
    np.testing.assert_array_equal(await scene.array(), A, "what is published stays")


# ---- cleaning up ----------------------------------------------------------------------------------------------------


async def test_clean_up_removes_the_operations_own_and_leaves_anothers_alone(scene: Scene) -> None:
    await scene.claim(FIRST)
    await write_tiles(scene.out, scene.ref, WHOLE, A, operation=FIRST)
    await scene.clean_up(FIRST)
    assert await scene.keys() == ["tilefleet/owner/000001"]
    await scene.claim(SECOND)
    await write_tiles(scene.out, scene.ref, WHOLE, A, operation=SECOND)
    await scene.publish(SECOND)
    before = await scene.keys()
    await scene.clean_up(FIRST)  # a coordinator that repeats it
    assert await scene.keys() == before
    np.testing.assert_array_equal(await scene.array(), A)


async def test_clean_up_brings_back_a_local_array_that_was_moved_aside(scene: Scene, tmp_path: Path) -> None:
    staged, replaced = tmp_path / f".x.zarr.partial-{FIRST}", tmp_path / f".x.zarr.replaced-{FIRST}"
    staged.mkdir()
    replaced.mkdir()
    (replaced / "zarr.json").write_text("the old one")
    command = CleanUp(FIRST, keeps_result=False, urls=(f"file://{staged}",))
    for _ in range(2):
        await Journal(scene.fleet, scene.stores, 1).clean_up(command)
        assert os.listdir(tmp_path) == ["x.zarr"]  # noqa: PTH208 - as it is
    assert (tmp_path / "x.zarr" / "zarr.json").read_text() == "the old one"


# ---- copies that the client makes -----------------------------------------------------------------------------------


async def test_a_copy_claims_its_place_too(scene: Scene) -> None:
    source = msgspec.structs.replace(scene.ref, url=scene.fleet.url_of("source"))
    await write_tiles(scene.stores.open(source.url), source, WHOLE, A)
    matrix = LazyMatrix(scene.stores, Operand(source))
    await scene.claim(FIRST)
    with pytest.raises(AlreadyExists, match=f"by operation {FIRST}"):
        await save(scene.stores, matrix, scene.out.url, overwrite=True)
    await scene.end(FIRST)
    await save(scene.stores, matrix, scene.out.url)
    np.testing.assert_array_equal(await scene.array(), A)
    with pytest.raises(AlreadyExists, match="exists already"):
        await save(scene.stores, matrix, scene.out.url)


# ---- single objects -------------------------------------------------------------------------------------------------


async def test_of_two_small_objects_at_once_one_appears(scene: Scene) -> None:
    parts = {name: scene.fleet.url_of(name) for name in ("one", "two")}
    for name, url in parts.items():
        await scene.stores.open(url).put("00000000", name.encode())
    url = scene.fleet.url_of("out.csv")

    async def join(name: str) -> int:
        return await join_parts(scene.stores, parts[name], 1, b"", url, operation=name, is_overwrite=False)

    answers = await asyncio.gather(*map(join, parts), return_exceptions=True)
    assert sorted(map(type, answers), key=str) == sorted([int, AlreadyExists], key=str)
    (winner,) = [name for name, answer in zip(parts, answers, strict=True) if answer == 3]
    assert bytes(await scene.fleet.get("out.csv")) == winner.encode()
    assert await join(winner) == 3, "doing it again is success"
