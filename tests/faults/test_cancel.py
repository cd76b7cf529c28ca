"""Cancelling at every stage of an operation leaves nothing, and ``gc`` takes what is left when everything dies there.

The rule: the store holds what a stage writes, so that it is in that stage for as long as the test wants; who was told to stop
meanwhile writes it late.
"""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config

from tests.acceptance.deployment import until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server
from tests.faults.proxy import Proxy, between
from tests.faults.queues import messages

A = np.random.default_rng(1).integers(-9, 9, (300, 260))
B = np.random.default_rng(2).integers(-9, 9, (260, 280))
LONG = np.random.default_rng(3).integers(-9, 9, (60, 400_000)).astype(np.float32)  # split, as 0.2 s do not bring it
WORKERS = ("w1", "w2")
NO_LEFTOVER = re.compile(
    "^fleet/(leader/|control/|probe-)|/tilefleet/owner/|^fleet/operations/[^/]+/(record.json|cancel.json|plan/|status/)"
)

FILE, ARRAY = "multiply {user}/a.csv {user}/b.npy -o {user}/out.npy", "multiply {user}/a.csv {user}/b.npy -o {user}/out.zarr"
SPLIT = "multiply {user}/long.npy {user}/wide.npy"
STAGES = {
    "a CSV is scanned": (FILE, "/facts/scan_a/"),
    "a CSV is parsed": (FILE, "/input/a/c/"),
    "an npy is brought": (FILE, "/input/b/c/"),
    "a product for a file": (FILE, "/result/c/"),
    "a file is encoded": (FILE, "/parts/"),
    "a file is published": (FILE, "/user/out.npy"),
    "a product for an array": (ARRAY, "/out.zarr/c/"),
    "an array is published": (ARRAY, "/out.zarr/zarr.json"),
    "a result that is kept": ("multiply {user}/b.npy {user}/b.npy --transpose-b", "/matrices/[^/]+/c/"),
    "a sum in parts": (SPLIT, "/partial/"),
    "parts are added": (SPLIT, "/matrices/[^/]+/c/"),
    "a result is verified": ("verify {kept}", "/facts/"),
}
ALWAYS = ("a CSV is parsed", "a product for an array")


def some(names: tuple[str, ...]) -> list[Any]:
    return [pytest.param(name, marks=() if name in names else pytest.mark.thorough) for name in STAGES]


class Scene:
    """A fleet whose daemons see the store through a proxy, and a client who does not."""

    def __init__(self, made: Fleet, store: Proxy, bucket: str, s3: Any) -> None:
        self.made, self.store, self._bucket, self._s3 = made, store, bucket, s3
        self.user = f"s3://{bucket}/user"
        self.kept = ""

    def put(self, name: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=f"user/{name}", Body=data)

    def names(self) -> set[str]:
        """Everything in the bucket, but for who leads, what workers measure the store by, whose an OUT was, and what is kept of
        operations that have ended."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key for key in keys if not NO_LEFTOVER.search(key)}

    def taken(self, key: str, otherwise: np.ndarray) -> np.ndarray:
        """What is there, which is removed."""
        if key not in self.names():
            return otherwise
        data = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        self._s3.delete_object(Bucket=self._bucket, Key=key)
        return np.asarray(np.load(io.BytesIO(data)))

    def start(self) -> None:
        self.made.start("coordinator", "coordinator")
        for name in WORKERS:
            self.made.start("workerd", name, "--name", name)

    def kill(self) -> None:
        for name in ("coordinator", *WORKERS):
            self.made.stop(name, signal.SIGKILL)

    def submitted(self, command: str) -> str:
        return self.made.client.output(*command.format(user=self.user, kept=self.kept).split(), "--no-wait")

    def state(self, operation: str) -> str:
        return str(self.made.client.json("show", operation)["state"])

    def note(self, operation: str) -> str:
        return str(self.made.client.json("show", operation).get("note", ""))

    def cancelled_in(self, stage: str) -> str:
        """An operation in that stage, cancelled twice; it has ended, and a worker is about to write."""
        command, self.store.held = STAGES[stage]
        self.store.counts["held"] = 0
        operation = self.submitted(command)
        until(lambda: self.store.counts["held"] > 0, f"{operation} is there")
        self.made.client.output("cancel", operation)
        self.made.client.output("cancel", operation)
        until(lambda: self.state(operation) == "cancelled", f"{operation} is cancelled")
        return operation

    def assert_works(self) -> None:
        self.made.client.output("multiply", f"{self.user}/a.csv", f"{self.user}/b.npy", "-o", "c.npy", "--overwrite")
        np.testing.assert_array_equal(np.load(self.made.client.directory / "c.npy"), A @ B)
        self.made.client.output("delete", "last")


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, moto_server: Server) -> Iterator[Scene]:
    bucket = moto_server.new_bucket()
    s3 = boto3.client(
        "s3", endpoint_url=moto_server.endpoint_url, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
    )
    with between(moto_server.endpoint_url) as store:
        config = fleet_config(Server(store.url), moto_server, bucket)
        with fleet(tmp_path_factory.mktemp("cancel"), config, *WORKERS) as made:
            direct = config.replace(store.url, moto_server.endpoint_url)
            (made.client.directory / "tilefleet.toml").write_text(direct, encoding="utf-8")
            here = Scene(made, store, bucket, s3)
            here.put("a.csv", "\n".join(",".join(map(str, row)) for row in A.tolist()).encode())
            here.put("b.npy", npy(B))
            here.put("long.npy", npy(LONG))
            here.put("wide.npy", npy(LONG.T[:, ::-1]))
            here.put("out.txt", b"of somebody else")
            here.kept = made.client.json("multiply", f"{here.user}/b.npy", f"{here.user}/b.npy", "--transpose-b")["id"]
            yield here
    s3.close()


@pytest.fixture
def here(scene: Scene) -> Iterator[Scene]:
    """The same, with nothing held and nothing open at the end."""
    until(lambda: not any("/open/" in key for key in scene.names()), "nothing is open")
    yield scene
    scene.store.held = ""


def assert_as_before(here: Scene, before: set[str]) -> None:
    until(lambda: here.names() == before, lambda: f"the store is as before, but {here.names() ^ before}")
    until(lambda: not messages(here.made.client), lambda: f"no message is left, but {messages(here.made.client)}")


def test_what_is_cancelled_before_anybody_took_it_up_leaves_nothing(here: Scene) -> None:
    before = here.names()
    here.made.daemons["coordinator"].send_signal(signal.SIGSTOP)
    operation = here.submitted(FILE)
    here.made.client.output("cancel", operation)
    here.made.daemons["coordinator"].send_signal(signal.SIGCONT)
    until(lambda: here.state(operation) == "cancelled", f"{operation} is cancelled")
    assert_as_before(here, before)


@pytest.mark.thorough
def test_what_is_cancelled_while_there_is_no_worker_leaves_nothing(here: Scene) -> None:
    before = here.names()
    for name in WORKERS:
        here.made.stop(name)
    operation = here.submitted(FILE)
    until(lambda: here.note(operation) == "waiting for a worker", "it waits")
    here.made.client.output("cancel", operation)
    until(lambda: here.state(operation) == "cancelled", f"{operation} is cancelled")
    assert_as_before(here, before)
    for name in WORKERS:
        here.made.start("workerd", name, "--name", name)
    here.assert_works()


@pytest.mark.parametrize("stage", some(ALWAYS))
def test_cancelling_in_a_stage_leaves_nothing(here: Scene, stage: str) -> None:
    before = here.names()
    here.cancelled_in(stage)
    here.store.held = ""
    if stage == "a file is published":  # by one request, which was under way: whole, or not at all
        until(lambda: here.names() in (before, before | {"user/out.npy"}), "the store is as before, but for the result")
        np.testing.assert_array_equal(here.taken("user/out.npy", A @ B), A @ B)
    assert_as_before(here, before)
    here.assert_works()
    assert here.names() == before


@pytest.mark.parametrize("stage", some(ALWAYS[:1]))
def test_gc_takes_what_is_left_when_everything_dies_in_a_stage_and_nothing_else(here: Scene, stage: str) -> None:
    before = here.names()
    operation = here.cancelled_in(stage)
    here.kill()
    here.store.held = ""
    opened = here.submitted("scale {user}/b.npy 2")  # while nobody is there
    with_both = here.names()
    assert f"fleet/open/{operation}" in with_both
    here.made.client.output("gc", "--older", "0s", "--yes")
    assert here.names() == before | {f"fleet/open/{opened}"}
    here.start()
    until(lambda: here.state(opened) == "done", "what was open is done")
    here.made.client.output("delete", opened)
    until(lambda: not messages(here.made.client), "what the dead held came back and was done")
    here.made.client.output("gc", "--older", "0s", "--yes")  # in vain, as nobody remembers that it was cancelled
    assert here.names() == before
