"""The embedded deployment's stand-in: who may talk to it, how it ends, and that its queues lose nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pytest

from tests.conftest import ACCESS_KEY, Server
from tilefleet.config import QueuesSection
from tilefleet.sqs import SqsQueues

COMMAND = [sys.executable, "-m", "coordinator.runtime.standin"]


class Standin(NamedTuple):
    """A stand-in that runs, and our end of the pipe by which it knows that we do."""

    process: subprocess.Popen[bytes]
    endpoint: str
    lifeline: BinaryIO


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Standin]:
    """A stand-in of this test's own, supervised through a pipe, and its endpoint."""
    ready = tmp_path / "ready"
    read_end, write_end = os.pipe()
    environment = os.environ | {"TILEFLEET_PARENT_FD": str(read_end)}
    process = subprocess.Popen(
        [*COMMAND, "--ready-file", str(ready)], pass_fds=[read_end], env=environment, stdout=subprocess.DEVNULL
    )
    os.close(read_end)
    deadline = time.monotonic() + 30
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with os.fdopen(write_end, "wb") as lifeline:
        try:
            yield Standin(process, ready.read_text(encoding="utf-8"), lifeline)
        finally:
            process.kill()
            process.wait()


def status_of(url: str, authorization: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})  # noqa: S310 — our own
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 — our own
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def signed_by(access_key: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential={access_key}/20250101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        ("/", ""),
        ("/", "Basic abc"),
        ("/", signed_by(ACCESS_KEY[:-1])),
        ("/", signed_by(ACCESS_KEY + "X")),
        ("/", signed_by(ACCESS_KEY).replace("Credential=", "")),
        ("/?X-Amz-Credential=" + ACCESS_KEY, ""),
        ("/moto-api/data.json", ""),
        ("/moto-api/data.json", signed_by(ACCESS_KEY)),
        ("//moto-api/data.json", signed_by(ACCESS_KEY).replace("/sqs/", "/s3/")),
    ],
)
def test_it_serves_nobody_else(moto_server: Server, path: str, authorization: str) -> None:
    assert status_of(moto_server.endpoint_url + path, authorization) in {403, 404}


def test_sigterm_ends_it_at_once(standin: Standin) -> None:
    standin.process.send_signal(signal.SIGTERM)
    assert standin.process.wait(timeout=10) == 0


async def test_sigterm_ends_it_during_a_poll(standin: Standin, fleet: str) -> None:
    async with SqsQueues(QueuesSection(endpoint_url=standin.endpoint), fleet) as queues:
        await queues.ensure()
        poll = asyncio.create_task(queues.jobs.receive(1, 2))
        await asyncio.sleep(0.3)
        standin.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(standin.process.wait, 10) == 0
        await asyncio.wait([poll])
        assert poll.exception() is not None


def test_it_ends_with_its_supervisor(standin: Standin) -> None:
    standin.lifeline.close()
    assert standin.process.wait(timeout=10) == 70


def test_without_an_access_key_it_says_so() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "AWS_ACCESS_KEY_ID"}
    run = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode != 0
    assert "AWS_ACCESS_KEY_ID" in run.stderr
    assert "Traceback" not in run.stderr


async def test_a_put_that_stops_in_its_body_holds_up_nobody(moto_server: Server, fleet: str) -> None:
    """As of a node that was switched off in the middle of sending a tile."""
    address = moto_server.endpoint_url.removeprefix("http://")
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as half:
        head = f"PUT /b/k HTTP/1.1\r\nHost: {address}\r\nAuthorization: {signed_by(ACCESS_KEY).replace('/sqs/', '/s3/')}"
        half.sendall(f"{head}\r\nIf-None-Match: *\r\nContent-Length: 1000\r\n\r\nabc".encode())
        await asyncio.sleep(0.3)
        async with SqsQueues(QueuesSection(endpoint_url=moto_server.endpoint_url), fleet) as queues:
            await asyncio.wait_for(queues.ensure(), 10)


async def test_nothing_is_lost_or_given_twice_between_senders_and_consumers(moto_server: Server, fleet: str) -> None:
    """moto alone gives some twice, and can lose some: its delete rebuilds the list to which a send appends, without a lock."""
    async with SqsQueues(QueuesSection(endpoint_url=moto_server.endpoint_url), fleet) as queues:
        await queues.ensure()
        seen: list[str] = []

        async def send(sender: int) -> None:
            for number in range(60):
                await queues.jobs.send([f"{sender}.{number}"])

        async def consume() -> None:
            while got := await queues.jobs.receive(2, 2):
                seen.extend(message.body for message in got)
                await queues.jobs.delete([message.handle for message in got])

        await asyncio.gather(*(send(sender) for sender in range(4)), *(consume() for _ in range(4)))
    assert sorted(seen) == sorted(f"{sender}.{number}" for sender in range(4) for number in range(60))
