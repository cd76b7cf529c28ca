"""The real daemon against the real wire protocol of SQS and a directory store; the test is the coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.conftest import Server
from tests.integration.workerd_process import Scene, scene
from tilefleet.config import StoreSection
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import (
    Elementwise,
    Gemm,
    JobDone,
    Publish,
    Term,
    WorkerBye,
    WorkerHeartbeat,
    WorkerHello,
    decode_job,
    encode,
)  # fmt: skip
from tilefleet.reading import Reader
from tilefleet.store import Stores


@pytest.fixture
async def fleet_scene(tmp_path: Path, fleet: str, moto_server: Server) -> AsyncIterator[Scene]:
    async with scene(tmp_path, fleet, moto_server.endpoint_url) as made:
        yield made


async def test_random_gemm_elementwise_publish(fleet_scene: Scene) -> None:
    """What the main job needs of a worker, in the order a coordinator would send it."""
    here = fleet_scene
    process = here.start(here.config("w1"))
    hello = await here.hear(WorkerHello)
    assert hello.worker == "w1" and hello.cores == 1 and hello.flops_per_s > 0
    assert 0 < hello.memory_bytes < 600 * 2**20

    a = here.random(300, "a")
    job = here.job(0, a)
    await here.send(job)
    done = await here.done(job)
    assert done.times.bytes_written > 300 * 300 * 8

    whole = Rect(0, 300, 0, 300)
    product = MatrixRef(f"{here.store_url}/matrices/p", "zarr", (300, 300), "float64", (128, 128), is_ours=True)
    gemm = here.job(1, Gemm(Operand(a.out), Operand(a.out, is_transposed=True), product, whole, 0, 300, 100, "float64"))
    total = MatrixRef(f"{here.store_url}/matrices/{gemm.operation}", "zarr", (300, 300), "float64", (128, 128), is_ours=True)
    terms = (Term(Operand(product)), Term(Operand(a.out), "2"))
    add = here.job(2, Elementwise(terms, total, whole))
    publish = here.job(3, Publish(total, add.operation), stage="publish")
    await here.send(gemm)
    done = await here.done(gemm)
    assert done.check_worst is not None and done.check_worst < 1
    assert done.times.flops == 2 * 300**3
    await here.send(add)
    await here.done(add)
    await here.send(publish)
    await here.done(publish)
    reader = Reader(Stores(StoreSection()))
    x, found = await reader.read(a.out, whole), await reader.read(total, whole)
    np.testing.assert_allclose(found, x @ x.T + 2 * x, rtol=1e-12)
    assert await here.store.head(f"matrices/{gemm.operation}/zarr.json")
    await here.jobs_gone()
    await here.hear(WorkerHeartbeat, lambda message: not message.held)

    process.send_signal(signal.SIGTERM)
    assert await here.exit_status(process) == 0
    await here.hear(WorkerBye)
    lines = [line for line in here.log("w1") if line["event"] == "job_done"]
    assert [line["work"] for line in lines] == ["random", "gemm", "elementwise", "publish"]
    assert {line["worker"] for line in lines} == {"w1"}


async def test_sigterm_finishes_the_job_in_hand(fleet_scene: Scene) -> None:
    here = fleet_scene
    process = here.start(here.config("w1"))
    job = here.slow(0, 60)
    await here.send(job)
    await here.hear(WorkerHeartbeat, lambda message: job.key in [held[:3] for held in message.held])
    process.send_signal(signal.SIGTERM)
    assert await here.exit_status(process) == 0
    await here.done(job)
    await here.hear(WorkerBye)
    await here.jobs_gone()


async def test_what_cannot_be_finished_in_time_is_given_back_at_once(fleet_scene: Scene) -> None:
    here = fleet_scene
    process = here.start(here.config("w1", drain='"100 ms"'))
    job = here.slow(0, 100_000)
    await here.send(job)
    await here.hear(WorkerHeartbeat, lambda message: bool(message.held))
    process.send_signal(signal.SIGTERM)
    assert await here.exit_status(process) == 75
    (message,) = await here.queues.jobs.receive(1, 1)
    assert decode_job(message.body) == job
    assert not any(isinstance(heard, JobDone) for heard in here.heard)


@pytest.mark.thorough
async def test_a_second_signal_leaves_at_once(fleet_scene: Scene) -> None:
    here = fleet_scene
    process = here.start(here.config("w1"))
    await here.send(here.slow(0, 100_000))
    await here.hear(WorkerHeartbeat, lambda message: bool(message.held))
    process.send_signal(signal.SIGTERM)
    await here.until(lambda: any(line["event"] == "draining" for line in here.log("w1")))
    process.send_signal(signal.SIGTERM)
    assert await here.exit_status(process) == 75
    assert here.log("w1")[-1]["event"] == "left_at_once"


async def test_the_job_of_a_killed_worker_is_done_by_another(tmp_path: Path, fleet: str, moto_server: Server) -> None:
    async with scene(tmp_path, fleet, moto_server.endpoint_url, lease_s=5) as here:
        first = here.start(here.config("w1"))
        job = here.slow(0, 100)
        await here.send(job)
        await here.hear(WorkerHeartbeat, lambda message: bool(message.held))
        first.kill()
        assert await here.exit_status(first) == -signal.SIGKILL
        here.start(here.config("w2"))
        done = await here.done(job)  # once the lease has ended
        assert done.worker == "w2"


@pytest.mark.thorough
async def test_a_job_longer_than_its_lease_is_delivered_once(tmp_path: Path, fleet: str, moto_server: Server) -> None:
    """The queue's own lease is 5 s; the worker, which has a slot free to receive the job again, renews it in time."""
    async with scene(tmp_path, fleet, moto_server.endpoint_url, lease_s=5) as here:
        process = here.start(here.config("w1", drain='"100 ms"'))
        job = here.slow(0, 100_000)
        await here.send(job)
        received = await here.hear(WorkerHeartbeat, lambda message: bool(message.held))
        async with asyncio.timeout(60):
            while here.beats(since=received) < 14:  # two a second
                await here.listen()
        assert all(len(message.held) <= 1 for message in here.heard if isinstance(message, WorkerHeartbeat))
        assert await here.queues.jobs.count() == (0, 1)
        process.send_signal(signal.SIGTERM)
        assert await here.exit_status(process) == 75
        (message,) = await here.queues.jobs.receive(1, 1)
        assert message.receives == 2


async def test_sighup_reads_the_configuration_again(fleet_scene: Scene) -> None:
    here = fleet_scene
    process = here.start(here.config("w1"))
    await here.hear(WorkerHello)
    await here.until(lambda: any(line["event"] == "worker_ready" for line in here.log("w1")))
    here.config("w1", "debug", memory='"700 MiB"')
    process.send_signal(signal.SIGHUP)
    await here.until(lambda: any(line["event"] == "config_reloaded" for line in here.log("w1")))
    reloaded = next(line for line in here.log("w1") if line["event"] == "config_reloaded")
    assert reloaded["needs_restart"] == ["worker.memory"]
    job = here.job(0, here.random())
    await here.send(job)
    await here.done(job)
    assert "job_received" in [line["event"] for line in here.log("w1") if line["level"] == "debug"]

    here.config("w1").write_text("[worker]\nheartbeats = 3\n", encoding="utf-8")
    process.send_signal(signal.SIGHUP)
    await here.until(lambda: any(line["event"] == "config_unusable" for line in here.log("w1")))
    assert process.poll() is None


async def test_what_is_not_ours_goes_to_the_dead_letter_queue_with_the_reason(fleet_scene: Scene) -> None:
    here = fleet_scene
    here.start(here.config("w1"))
    job = here.job(0, here.random())
    newer = encode(job).replace('"v":1', '"v":2')
    other = encode(msgspec.structs.replace(job, fleet="other"))
    bodies = ["not json", '{"type": "done"}', newer, other]
    await here.queues.jobs.send(bodies)
    await here.send(job)
    await here.done(job)
    dead: dict[str, str] = {}
    async with asyncio.timeout(20):
        while len(dead) < len(bodies):
            for message in await here.queues.dead(here.queues.jobs).receive(10, 1):
                letter = json.loads(message.body)
                dead[letter["body"]] = letter["reason"]
    assert set(dead) == set(bodies)
    assert "fleet 'other'" in dead[other]
    await here.jobs_gone()


async def test_a_job_that_does_not_fit_says_how_much_memory_would_do(fleet_scene: Scene) -> None:
    here = fleet_scene
    here.start(here.config("w1"))
    job = here.job(0, here.random(), peak_bytes=2**30)
    await here.send(job)
    failed = await here.failed(job)
    assert (failed.error.code, failed.is_retryable) == ("does_not_fit", False)
    assert "1.0 GiB" in failed.error.sentence and "worker.memory" in failed.error.sentence


async def test_bad_input_fails_for_good_and_the_worker_goes_on(fleet_scene: Scene) -> None:
    here = fleet_scene
    here.start(here.config("w1"))
    good = here.random()
    missing = MatrixRef(f"{here.store_url}/matrices/none", "zarr", (256, 256), "float64", (256, 256), is_ours=True)
    bad = here.job(0, Elementwise((Term(Operand(missing)),), good.out, good.rect))
    job = here.job(1, good)
    await here.send(bad)
    failed = await here.failed(bad)
    assert (failed.error.code, failed.is_retryable) == ("not_found", False)
    await here.send(job)
    await here.done(job)
    await here.jobs_gone()


@pytest.mark.thorough
async def test_jobs_of_a_cancelled_operation_are_dropped(fleet_scene: Scene) -> None:
    here = fleet_scene
    await here.control("0p3rat10n000")
    here.start(here.config("w1"))
    await here.hear(WorkerHello)
    dropped = here.job(0, here.random())
    kept = msgspec.structs.replace(here.job(1, here.random(name="kept")), operation="0p3rat10n111")
    await here.send(dropped, kept)
    await here.done(kept)
    await here.until(lambda: any(line["event"] == "job_dropped" for line in here.log("w1")))
    assert [message.index for message in here.heard if isinstance(message, JobDone)] == [1]
    assert not (here.directory / "store" / "matrices" / "r").exists()


async def test_a_coordinator_that_does_not_know_the_worker_hears_hello_again(fleet_scene: Scene) -> None:
    here = fleet_scene
    here.start(here.config("w1"))
    await here.hear(WorkerHello)
    here.heard.clear()
    await here.control()  # of a new leader, with no workers in it
    await here.hear(WorkerHello)


@pytest.mark.thorough
async def test_queues_that_are_lost_and_made_again(fleet_scene: Scene) -> None:
    import boto3

    here = fleet_scene
    here.start(here.config("w1"))
    await here.until(lambda: any(line["event"] == "worker_ready" for line in here.log("w1")))
    sqs = boto3.client("sqs", endpoint_url=here.endpoint_url, region_name="us-east-1")
    for queue in ("jobs", "completions"):
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=f"{here.fleet}-{queue}")["QueueUrl"])
    await here.until(lambda: any(line["event"] == "poll_failed" for line in here.log("w1")))
    await here.queues.ensure()
    job = here.job(0, here.random())
    await here.send(job)
    await here.done(job)


@pytest.mark.thorough
async def test_no_queues_at_the_start(tmp_path: Path, fleet: str, moto_server: Server) -> None:
    async with Scene(tmp_path, fleet, moto_server.endpoint_url).queues:
        here = Scene(tmp_path, fleet, moto_server.endpoint_url)
        process = here.start(here.config("w1"), "--start-timeout", "0.5")
        assert await here.exit_status(process) == 7
        last = (tmp_path / "w1.log").read_text(encoding="utf-8").splitlines()[-1]
        assert last.startswith("workerd: the queue fleet-") and "does not exist" in last


@pytest.mark.parametrize(
    ("options", "text", "sentence"),
    [
        ([], "[worker]\nmemry = 3\n", "no such key"),
        ([], "", "store.url is required"),
        (["--memory", "much"], '[store]\nurl = "file:///tmp"\n', "--memory: 'much' is not a size"),
        (["--cores", "0"], '[store]\nurl = "file:///tmp"\n', "--cores must be 1 or more"),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, options: list[str], text: str, sentence: str) -> None:
    path = tmp_path / "workerd.toml"
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "workerd.daemon", "--config", str(path), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 10
    assert sentence in ended.stderr and "Traceback" not in ended.stderr
    assert ended.stdout == ""


async def test_too_little_memory_is_said_with_what_would_do(fleet_scene: Scene) -> None:
    here = fleet_scene
    process = here.start(here.config("w1"), "--memory", "100 MiB")
    assert await here.exit_status(process) == 10
    last = (here.directory / "w1.log").read_text(encoding="utf-8").splitlines()[-1]
    assert "worker.memory of 100.0 MiB is too little" in last


@pytest.mark.thorough
async def test_readiness_watchdog_and_status_are_told_to_the_service_manager(fleet_scene: Scene) -> None:
    here = fleet_scene
    address = here.directory / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.setblocking(False)
        told: list[str] = []

        def listen() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    told.append(manager.recv(4096).decode())

        asyncio.get_running_loop().add_reader(manager, listen)
        environment = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        process = here.start(here.config("w1"), environment=environment)
        await here.until(lambda: "READY=1" in told)
        job = here.job(0, here.random())
        await here.send(job)
        await here.done(job)
        await here.until(lambda: "WATCHDOG=1" in told and "STATUS=computing 0p3rat10n000 stage/0" in told)
        process.send_signal(signal.SIGTERM)
        assert await here.exit_status(process) == 0
        await here.until(lambda: "STOPPING=1" in told)
        asyncio.get_running_loop().remove_reader(manager)
