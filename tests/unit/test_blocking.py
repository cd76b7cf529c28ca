"""The blocking face: the same methods, driven from a thread of its own; interrupts and exits leave nothing hanging."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tilefleet
from tests.conftest import ACCESS_KEY, SECRET_KEY, Server
from tilefleet import background, blocking, layout
from tilefleet.client import Client
from tilefleet.config import Config, FleetSection, QueuesSection, StoreSection
from tilefleet.errors import BadInput, NotFound
from tilefleet.operation import Operation
from tilefleet.records import OperationStatus, to_json
from tilefleet.sqs import SqsQueues
from tilefleet.store import file_url

HEAVY = ("aioboto3", "boto3", "botocore", "msgspec", "numpy", "obstore", "pyarrow", "scipy", "zarr")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))


@pytest.fixture
def client(tmp_path: Path, fleet: str, moto_server: Server) -> Iterator[blocking.BlockingClient]:
    queues = QueuesSection(endpoint_url=moto_server.endpoint_url)

    async def make_queues() -> None:
        async with SqsQueues(queues, fleet, credentials=(ACCESS_KEY, SECRET_KEY)) as made:
            await made.ensure()

    background.run(make_queues())
    store = StoreSection(url=file_url(tmp_path / "far"))
    with tilefleet.connect(Config(fleet=FleetSection(name=fleet, kind="remote"), store=store, queues=queues)) as client:
        yield client


def test_operations_from_submission_to_deletion(client: blocking.BlockingClient) -> None:
    operation = client.scale(np.eye(3), 2)
    store = client.session.store
    assert operation.status() is None
    assert client.find("last").id == operation.id
    states = []
    background.run(store.put(layout.status(operation.id, 1), to_json(OperationStatus(operation.id, "running", 1))))
    for status in operation.progress():
        states.append(status.state)
        background.run(store.put(layout.status(operation.id, 1), to_json(OperationStatus(operation.id, "done", 1))))
    assert states == ["running", "done"]
    assert operation.wait().state == "done"
    assert [record.id for record, _ in client.operations()] == [operation.id]
    operation.delete()
    with pytest.raises(NotFound):
        client.find(operation.id)


def test_an_operation_may_be_an_operand(client: blocking.BlockingClient) -> None:
    operation = client.scale(np.eye(3), 2)
    with pytest.raises(BadInput, match="has no result yet"):
        client.multiply(operation, operation)


def test_iteration_that_is_left_early_closes_the_async_iterator(client: blocking.BlockingClient) -> None:
    operation = client.scale(np.eye(3), 2)
    store = client.session.store
    background.run(store.put(layout.status(operation.id, 1), to_json(OperationStatus(operation.id, "running", 1))))
    changes = operation.progress()
    assert next(changes).state == "running"
    changes.close()
    assert list(changes) == []


def test_it_looks_like_the_async_object() -> None:
    client = tilefleet.connect(Config())
    assert {name for name in dir(Client) if not name.startswith("_")} <= set(dir(client))
    assert client.multiply.__doc__ == Client.multiply.__doc__
    assert inspect.signature(client.multiply) == inspect.signature(client.async_object.multiply)
    assert "async with" in (client.__doc__ or "")
    with pytest.raises(AttributeError):
        client.divide  # noqa: B018
    client.close()


def test_no_public_method_of_the_async_objects_is_hidden() -> None:
    for face, kind in ((blocking.BlockingClient, Client), (blocking.Blocking, Operation)):
        own = {name for name in vars(face) if not name.startswith("_")} - {"close", "async_object"}
        assert own & set(dir(kind)) == set()


async def test_it_works_while_a_loop_runs_as_in_a_notebook(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    with tilefleet.connect(Config()) as client:
        assert client.inspect(tmp_path / "a.npy").shape == (3, 3)


def test_a_blocking_call_inside_the_loop_itself_is_refused_not_a_deadlock() -> None:
    async def inside() -> None:
        background.run(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="await the async method"):
        background.run(inside())


def test_an_interrupt_cancels_the_call_and_waits_until_it_has_cleaned_up() -> None:
    cleaned, started = threading.Event(), threading.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    def interrupt() -> None:
        started.wait()
        os.kill(os.getpid(), 2)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        background.run(endless())
    assert cleaned.is_set()
    assert background.run(asyncio.sleep(0, "still there")) == "still there"


def test_the_exit_gives_back_what_is_held_and_ends_the_loop() -> None:
    script = """
import tilefleet, contextlib
client = tilefleet.connect(tilefleet.Config())
held = contextlib.AsyncExitStack()
async def given_back():
    print("given back", flush=True)
held.push_async_callback(given_back)
client.session._held = held
print(client.operations())
"""
    ended = run_python(script)
    assert ended.stdout.split("\n") == ["[]", "given back", ""]
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    script = """
import asyncio, os, warnings
from tilefleet import background
warnings.simplefilter("ignore", DeprecationWarning)  # fork of a process with threads: the reason for this test
background.run(asyncio.sleep(0))
child = os.fork()
if not child:
    os._exit(background.run(asyncio.sleep(0, 7)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(script).stdout == "7\n"


def test_importing_tilefleet_imports_nothing_heavy() -> None:
    script = f"import sys, tilefleet; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(script).stdout == "[]\n"


def test_a_client_that_only_reads_imports_no_numpy_aws_zarr_or_arrow() -> None:
    script = f"""
import sys, tilefleet
with tilefleet.connect() as client:
    client.operations()
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert run_python(script).stdout == "['msgspec', 'obstore']\n"


def test_every_public_name_is_there() -> None:
    assert set(tilefleet.__all__) <= set(dir(tilefleet))
    for name in tilefleet.__all__:
        assert getattr(tilefleet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tilefleet.nothing  # noqa: B018


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
