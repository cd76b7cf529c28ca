"""The contract of a store, kept by a directory and by S3 (moto, and SeaweedFS with strict SigV4)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Server
from tilefleet.config import StoreSection
from tilefleet.errors import BadInput, NotAllowed, NotFound, Unreachable
from tilefleet.quantities import Duration
from tilefleet.store import Store, Stores, said

MOTO = pytest.param("moto", marks=pytest.mark.thorough)
BACKENDS = ["directory", MOTO, "seaweedfs"]
S3 = pytest.mark.parametrize("kind", [MOTO, "seaweedfs"], indirect=True)
AWKWARD = ["a b/c d", "Müller/矩阵 🚀", "50%/#one", "%20/a%2Fb", "q?x=1&y=2/+", "it's (fine)/=~!", "dots/.hidden", "x" * 200]


@pytest.fixture(params=BACKENDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Server | None:
    """The stand-in of this kind; only the one that is needed is started."""
    return None if kind == "directory" else request.getfixturevalue(f"{kind}_server")


@pytest.fixture
def store(server: Server | None, request: pytest.FixtureRequest) -> Store:
    """An empty store, rooted below the top of its bucket or directory."""
    if server is None:
        directory: Store = request.getfixturevalue("directory_store")
        return directory.at("some/prefix")
    return opened(server, f"s3://{server.new_bucket()}/some/prefix")


def opened(server: Server, url: str, timeout: str = "30 s") -> Store:
    return Stores(StoreSection(endpoint_url=server.endpoint_url, timeout=Duration(timeout))).open(url)


async def read(store: Store, key: str) -> bytes:
    return bytes(await store.get(key))


async def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted([entry.key async for entry in store.entries(prefix)])


async def test_put_get_replace_and_delete(store: Store) -> None:
    await store.put("a/b", b"one")
    assert await read(store, "a/b") == b"one"
    await store.put("a/b", b"two, longer")
    assert await read(store, "a/b") == b"two, longer"
    await store.delete(["a/b"])
    with pytest.raises(NotFound):
        await store.get("a/b")


@pytest.mark.parametrize("n_bytes", [0, 1, 20_000_000])
async def test_objects_come_back_byte_for_byte(store: Store, n_bytes: int) -> None:
    data = np.random.default_rng(n_bytes).integers(0, 256, n_bytes, np.uint8).tobytes()
    await store.put("object", data)
    assert await read(store, "object") == data
    head = await store.head("object")
    assert head is not None
    assert (head.key, head.size_bytes) == ("object", n_bytes)


async def test_what_looks_like_aws_chunking_comes_back_byte_for_byte(store: Store) -> None:
    data = b"5;chunk-signature=0\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    await store.put("object", data)
    assert await read(store, "object") == data


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.complex64])
async def test_arrays_are_put_without_a_copy_of_ours(store: Store, dtype: type[np.generic]) -> None:
    array = (np.arange(3000) % 100).astype(dtype).reshape(50, 60)
    await store.put("array", array.reshape(-1).view(np.uint8))
    assert await store.put_new("new", array.data.cast("B"))
    for key in ("array", "new"):
        np.testing.assert_array_equal(np.frombuffer(await store.get(key), dtype).reshape(50, 60), array)


async def test_ranges(store: Store) -> None:
    data = bytes(range(256)) * 40
    await store.put("object", data)
    assert bytes(await store.get_range("object", 0, 10)) == data[:10]
    assert bytes(await store.get_range("object", 300, 1000)) == data[300:1000]
    assert bytes(await store.get_range("object", 7, 7)) == b""
    found = await store.get_ranges("object", [0, 5000, 10], [3, 6000, 4000])
    assert [bytes(part) for part in found] == [data[:3], data[5000:6000], data[10:4000]]


async def test_a_range_that_begins_beyond_the_end_is_a_truncated_object(store: Store) -> None:
    await store.put("short", b"0123456789")
    with pytest.raises(BadInput, match="short is shorter than it should be"):
        await store.get_range("short", 10, 20)
    with pytest.raises(BadInput, match="short is shorter than it should be"):
        await store.get_range("short", 100, 200)


async def test_a_range_that_ends_beyond_the_end_is_cut(store: Store) -> None:
    await store.put("short", b"0123456789")
    assert bytes(await store.get_range("short", 5, 20)) == b"56789"


async def test_put_new_has_one_winner_of_eight(store: Store) -> None:
    for race in range(2):
        wins = await asyncio.gather(*(store.put_new(f"race/{race}", b"%d" % n * 1000) for n in range(8)))
        assert sum(wins) == 1
        assert await read(store, f"race/{race}") == b"%d" % wins.index(True) * 1000


async def test_put_new_leaves_what_is_there(store: Store) -> None:
    assert await store.put_new("a", b"first")
    assert not await store.put_new("a", b"second")
    assert await read(store, "a") == b"first"


async def test_an_absent_object_is_named(store: Store) -> None:
    for attempt in (store.get("no/such"), store.get_range("no/such", 0, 5), store.get_ranges("no/such", [0], [5])):
        with pytest.raises(NotFound, match=f"there is no {store.url.removeprefix('file://')}/no/such"):
            await attempt
    assert await store.head("no/such") is None


async def test_entries_are_found_by_whole_path_segments(store: Store) -> None:
    for key in ("a/1", "a/b/2", "ab/3", "c"):
        await store.put(key, key.encode())
    assert await keys(store) == ["a/1", "a/b/2", "ab/3", "c"]
    assert await keys(store, "a") == ["a/1", "a/b/2"]
    assert await keys(store.at("a")) == ["1", "b/2"]
    assert await keys(store, "nothing/here") == []
    sizes = {entry.key: entry.size_bytes async for entry in store.entries("a")}
    assert sizes == {"a/1": 3, "a/b/2": 5}
    assert all([entry.modified_at > 1.7e9 async for entry in store.entries()])


async def test_more_entries_than_a_page_holds(store: Store) -> None:
    names = [f"c/{number}" for number in range(1100)]
    for start in range(0, len(names), 100):
        await asyncio.gather(*(store.put(name, b"") for name in names[start : start + 100]))
    assert await keys(store) == sorted(names)
    assert await store.delete_prefix("c") == 1100
    assert await keys(store) == []


async def test_deleting_what_is_not_there_is_no_error(store: Store) -> None:
    await store.put("a", b"")
    await store.delete(["absent", "a", "absent/deep"])
    await store.delete([])
    assert await keys(store) == []


async def test_delete_prefix_keeps_the_neighbours(store: Store) -> None:
    for key in ("a/1", "a/b/2", "ab/3"):
        await store.put(key, b"x")
    assert await store.delete_prefix("a") == 2
    assert await store.delete_prefix("a") == 0
    assert await keys(store) == ["ab/3"]


async def test_put_stream_of_more_than_one_part(store: Store) -> None:
    parts = [bytes([number]) * 3_000_001 for number in range(5)]

    async def stream() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    await store.put_stream("large", stream())
    assert await read(store, "large") == b"".join(parts)


async def test_a_stream_that_fails_leaves_nothing(store: Store) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"x" * 12_000_000
        raise ZeroDivisionError

    with pytest.raises(Exception):  # noqa: B017 — obstore wraps it
        await store.put_stream("large", stream())
    assert await store.head("large") is None


@pytest.mark.parametrize("key", AWKWARD)
async def test_awkward_keys(store: Store, key: str) -> None:
    await store.put(key, key.encode())
    assert await read(store, key) == key.encode()
    assert await keys(store) == [key]
    below, _, last = key.rpartition("/")
    assert await keys(store.at(below) if below else store) == [last]
    await store.delete([key])
    assert await keys(store) == []


async def test_a_key_never_leaves_its_prefix(store: Store) -> None:
    for key in ("../outside", "a/../../outside"):
        with pytest.raises(BadInput, match=r"'\.\.' is not allowed"):
            await store.put(key, b"")


async def test_a_name_that_a_directory_cannot_hold_is_said(directory_store: Store) -> None:
    with pytest.raises(BadInput, match="a character that names in the store must not have"):
        await directory_store.put("part#1", b"")


@S3
async def test_a_bucket_that_is_not_there_is_named(server: Server) -> None:
    store = opened(server, "s3://no-such-bucket/prefix")
    for attempt in (store.get("a"), store.put("a", b"x")):
        with pytest.raises(NotFound, match="the bucket of s3://no-such-bucket/prefix/a does not exist"):
            await attempt


@S3
@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
async def test_wrong_credentials(server: Server, kind: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (kind, wrong) == ("moto", "AWS_SECRET_ACCESS_KEY"):
        pytest.skip("moto does not check signatures; the stand-in's gate checks the access key")
    bucket = server.new_bucket()
    monkeypatch.setenv(wrong, "WRONG")
    store = opened(server, f"s3://{bucket}")
    for attempt in (store.get("a"), store.put("a", b"x"), keys(store)):
        with pytest.raises(NotAllowed, match=f"(?s)credentials.*s3://{bucket}"):
            await attempt


async def test_absent_credentials_are_named(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NotAllowed, match="there are no AWS credentials"):
        stores.open("s3://bucket")


_SHORT_RUN = """
import asyncio, sys
from tilefleet.config import StoreSection
from tilefleet.store import Stores, settle
async def main():
    store = Stores(StoreSection()).open(sys.argv[1])
    await asyncio.gather(*(store.put(f"{n}", b"x" * 100_000) for n in range(20)))
    await asyncio.gather(*(store.get(f"{n}") for n in range(20)))
    await settle()
asyncio.run(main())
"""


def test_a_process_that_used_a_store_ends_normally(directory_store: Store) -> None:
    """obstore's threads can abort an interpreter that finalises right after its last await; ``settle`` prevents it."""
    for _ in range(10):
        runs = [
            subprocess.Popen([sys.executable, "-c", _SHORT_RUN, directory_store.at(str(n)).url], stderr=subprocess.PIPE)
            for n in "ab"
        ]
        for run in runs:
            _, errors = run.communicate(timeout=60)
            assert (run.returncode, errors) == (0, b"")


async def test_a_directory_without_permission_is_said(directory_store: Store) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    sealed = directory_store.at("sealed")
    await sealed.put("a", b"")
    os.chmod(sealed.url.removeprefix("file://"), 0o500)  # noqa: PTH101
    with pytest.raises(NotAllowed, match="no permission for file://"):
        await sealed.put("b", b"")


async def test_a_service_that_is_not_there_is_unreachable() -> None:
    settings = StoreSection(endpoint_url="http://127.0.0.1:9", timeout=Duration("1 s"))
    with pytest.raises(Unreachable, match="s3://bucket/key"):
        await Stores(settings).open("s3://bucket").get("key")


class _Failing(BaseHTTPRequestHandler):
    """Answers 503 with XML to the first ``failures`` requests, and an object to those that follow."""

    failures, seen = 0, 0

    def do_GET(self) -> None:
        type(self).seen += 1
        is_failing = self.seen <= self.failures
        body = b"<?xml version='1.0'?>\n<Error><Code>SlowDown</Code></Error>" if is_failing else b"data"
        self.send_response(503 if is_failing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line per request."""


@contextmanager
def failing(n_times: int) -> Iterator[tuple[Store, type[_Failing]]]:
    handler = type("Handler", (_Failing,), {"failures": n_times})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Stores(StoreSection(endpoint_url=f"http://127.0.0.1:{server.server_port}")).open("s3://bucket"), handler
        server.shutdown()
        thread.join()


async def test_one_call_survives_a_hiccup() -> None:
    with failing(2) as (store, handler):
        assert await read(store, "key") == b"data"
        assert handler.seen == 3


async def test_one_call_leaves_longer_trouble_to_its_caller_in_a_sentence_without_xml() -> None:
    with failing(1000) as (store, handler):
        with pytest.raises(Unreachable) as caught:
            await store.get("key")
        assert handler.seen == 4
    sentence = str(caught.value)
    assert "s3://bucket/key" in sentence
    assert "503" in sentence
    assert "\n" not in sentence
    assert "<" not in sentence


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("one line", "one line"),
        ("Generic S3 error: 500: <?xml version='1.0'?><Error>", "Generic S3 error: 500"),
        ("first\n\nDebug source:\nGeneric { store: S3 }", "first"),
        ("x" * 500, "x" * 199 + "…"),
        ("<html>", "ValueError"),
        ("", "ValueError"),
    ],
)
def test_what_a_library_says_is_cut_to_what_people_can_use(text: str, kept: str) -> None:
    assert said(ValueError(text)) == kept


@S3
async def test_listing_a_bucket_that_is_not_there(server: Server) -> None:
    store = opened(server, "s3://no-such-bucket/prefix")
    with pytest.raises(NotFound, match="the bucket of s3://no-such-bucket/prefix/a does not exist"):
        await keys(store, "a")
    with pytest.raises(NotFound, match="the bucket of s3://no-such-bucket/prefix/a does not exist"):
        await store.folders("a")


async def test_a_profile_that_does_not_exist_is_named(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NotAllowed, match=r"nobody.*mend AWS_PROFILE"):
        stores.open("s3://bucket")


async def test_a_login_that_is_needed_is_said_before_the_store_is_asked(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        f"[profile sso]\nsso_start_url = https://{tmp_path.name}.invalid/start\nsso_region = us-east-1\n"
        "sso_account_id = 123456789012\nsso_role_name = reader\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "sso")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(NotAllowed, match="the AWS credentials for the store cannot be had"):
        stores.open("s3://bucket")
