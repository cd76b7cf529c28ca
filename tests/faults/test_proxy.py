"""The proxy hurts as it says, so that what survives it has survived something."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.conftest import Server, unique
from tests.faults import refusals
from tests.faults.proxy import Hurts, Proxy, between, only
from tilefleet.config import QueuesSection, StoreSection
from tilefleet.credentials import AccessDenied, ClockIsWrong
from tilefleet.errors import BadInput, Unreachable
from tilefleet.matrix import MatrixRef, Rect
from tilefleet.quantities import Duration
from tilefleet.reading import Reader
from tilefleet.sqs import SqsQueues
from tilefleet.store import Store, Stores
from tilefleet.writing import write_tiles

TILES = np.arange(256.0).reshape(16, 16)


@pytest.fixture
def proxy(moto_server: Server) -> Iterator[Proxy]:
    with between(moto_server.endpoint_url, seed=3) as made:
        yield made


@pytest.fixture
def stores(proxy: Proxy) -> Stores:
    return Stores(StoreSection(endpoint_url=proxy.url, region="us-east-1"))


@pytest.fixture
def store(stores: Stores, moto_server: Server) -> Store:
    return stores.open(f"s3://{moto_server.new_bucket()}/x")


@pytest.mark.parametrize(
    ("kind", "has_effect"), [("refuse", False), ("throttle", False), ("reset", False), ("lose", True), ("cut_off", True)]
)
async def test_a_request_that_is_hurt_fails_with_or_without_effect(
    proxy: Proxy, store: Store, kind: str, *, has_effect: bool
) -> None:
    proxy.hurts = only(kind, 1.0)
    with pytest.raises(Unreachable):
        await store.put("a", b"1")
    assert proxy.n_hurt == proxy.counts[kind] >= 2, "the client tried again"
    proxy.hurts = Hurts()
    assert (await store.head("a") is not None) is has_effect


async def test_what_is_denied_has_no_effect_and_is_worded_as_by_aws(proxy: Proxy, store: Store) -> None:
    proxy.hurts = only("deny", 1.0)
    with pytest.raises(AccessDenied, match="not authorized to perform: s3:PutObject on resource"):
        await store.put("a", b"1")
    async with SqsQueues(QueuesSection(endpoint_url=proxy.url, region="us-east-1"), unique("denied")) as queues:
        with pytest.raises(AccessDenied, match="not authorized to perform: sqs:getqueueurl on resource"):
            await queues.resolve()
    proxy.hurts = Hurts()
    assert await store.head("a") is None


async def test_what_was_signed_at_another_time_is_refused(proxy: Proxy, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.put("a", b"1")
    monkeypatch.setattr(refusals, "SKEW_ALLOWED_S", -1.0)
    for call in (store.get("a"), store.head("a"), store.put("a", b"2")):
        with pytest.raises(ClockIsWrong, match="the clock of this machine is wrong"):
            await call
    async with SqsQueues(QueuesSection(endpoint_url=proxy.url, region="us-east-1"), unique("skewed")) as queues:
        with pytest.raises(ClockIsWrong, match="the clock of this machine is wrong"):
            await queues.resolve()


async def test_half_an_answer_is_no_answer(proxy: Proxy, store: Store) -> None:
    await store.put("a", bytes(100_000))
    proxy.hurts = only("truncate", 1.0)
    with pytest.raises(Unreachable):
        await store.get("a")
    proxy.hurts = Hurts()
    assert len(await store.get("a")) == 100_000


async def test_a_tile_that_is_damaged_on_the_way_is_fetched_again_and_one_that_always_is_is_named(
    proxy: Proxy, store: Store, stores: Stores
) -> None:
    ref = MatrixRef(store.url_of("m"), "zarr", TILES.shape, "float64", (8, 8), is_ours=True)
    whole = Rect(0, 16, 0, 16)
    await write_tiles(stores.open(ref.url), ref, whole, TILES)
    proxy.hurts = only("corrupt", 0.2)
    for _ in range(5):
        np.testing.assert_array_equal(await Reader(stores).read(ref, whole), TILES)
    assert proxy.counts["corrupt"] >= 2
    proxy.hurts = only("corrupt", 1.0)
    with pytest.raises(BadInput, match="is damaged: its crc32c does not match"):
        await Reader(stores).read(ref, whole)


async def test_what_is_more_than_the_rate_is_throttled(proxy: Proxy, store: Store) -> None:
    proxy.requests_per_s = 2.0
    for number in range(4):
        await store.put(f"{number}", b"")
    assert proxy.counts["throttle"] >= 1


async def test_a_message_is_given_once_more(proxy: Proxy) -> None:
    settings = QueuesSection(endpoint_url=proxy.url, region="us-east-1", lease=Duration("10 s"))
    async with SqsQueues(settings, unique("proxied")) as queues:
        await queues.ensure()
        await queues.jobs.send(["first"])
        [first] = await queues.jobs.receive(10, 1.0)
        await queues.jobs.delete([first.handle])
        proxy.hurts = only("repeat", 1.0)
        [again] = await queues.jobs.receive(10, 1.0)
        assert again.body == "first"
        await queues.jobs.delete([again.handle])
