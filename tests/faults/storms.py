"""Where a storm rages: over a fleet behind proxies, or over the embedded deployment with its supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import psutil
from botocore.config import Config

from tests.acceptance.deployment import QUICK, Place, place, until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server
from tests.faults.proxy import Proxy, between
from tests.faults.storm import Storm
from tilefleet.local import running

WORKERS = ("w1", "w2", "w3")
COORDINATORS = ("coordinator", "stand-by")
CHILDREN = ("queues", "coordinator", "w1", "w2")


# ---- a fleet


@contextmanager
def over_a_fleet(directory: Path, server: Server, seed: int) -> Iterator[tuple[Storm, Fleet]]:
    """Two coordinators and three workers, and the client, behind proxies."""
    with between(server.endpoint_url, seed=seed) as to_store, between(server.endpoint_url, seed=seed + 1) as to_queues:
        config = fleet_config(Server(to_store.url), Server(to_queues.url), server.new_bucket())
        with fleet(directory, config, *WORKERS) as made:
            made.start("coordinator", "stand-by")
            here, proxies = made.client, (to_store, to_queues)
            user = here.config.store.url.rsplit("/", 1)[0] + "/user"

            def kill(name: str, pause_s: float) -> None:
                made.stop(name, signal.SIGKILL)
                time.sleep(pause_s)
                module, options = ("workerd", ("--name", name)) if name in WORKERS else ("coordinator", ())
                made.start(module, name, *options)

            weather = Storm(
                here, lambda name: f"{user}/{name}.zarr", (*WORKERS, *COORDINATORS), kill, lambda: _check_fleet(made, proxies),
                seed, proxies,
            )  # fmt: skip
            weather.prepare()
            yield weather, made


def _check_fleet(made: Fleet, proxies: tuple[Proxy, Proxy]) -> None:
    """Calm weather: the queues empty themselves, no operation is open, every daemon that was started lives, once."""
    until(lambda: not _messages(made, proxies[1]), lambda: f"the queues are empty, but {_messages(made, proxies[1])}", 120)
    until(lambda: not _open(made, proxies[0]), lambda: f"nothing is open, but {_open(made, proxies[0])}", 120)
    assert sorted(made.daemons) == sorted((*WORKERS, *COORDINATORS))
    assert all(daemon.poll() is None for daemon in made.daemons.values())


def _messages(made: Fleet, proxy: Proxy) -> dict[str, int]:
    """By queue, what is in it or leased; dead letters, too."""
    client = boto3.client("sqs", endpoint_url=proxy.target, region_name="us-east-1")
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    try:
        urls = client.list_queues(QueueNamePrefix=f"{made.client.config.fleet.name}-")["QueueUrls"]
        found = {
            url.rsplit("/", 1)[-1]: client.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))["Attributes"]
            for url in urls
        }
    finally:
        client.close()
    return {url: n for url, counts in found.items() if (n := sum(int(counts[name]) for name in names))}


def _open(made: Fleet, proxy: Proxy) -> list[str]:
    bucket, prefix = made.client.config.store.url.removeprefix("s3://").split("/", 1)
    path_style = Config(s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=proxy.target, region_name="us-east-1", config=path_style)
    try:
        found = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/open/").get("Contents", [])
    finally:
        client.close()
    return [item["Key"] for item in found]


# ---- the embedded deployment


@contextmanager
def over_one_machine(directory: Path, seed: int) -> Iterator[Storm]:
    """Whoever dies is started again by the supervisor; the supervisor by the next command, after its children have left."""
    with place(directory, f'{QUICK}[local]\nworkers = 2\nmemory = "500 MiB"\n') as here:
        here.output("local", "up")

        def kill(name: str, pause_s: float) -> None:
            deployment = running(here.config)
            pid = None if deployment is None else deployment.pid if name == "supervisor" else deployment.children.get(name)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it is down already
                    os.kill(pid, signal.SIGKILL)
            time.sleep(pause_s)

        weather = Storm(here, lambda name: f"{name}.npy", ("supervisor", *CHILDREN), kill, lambda: _check_machine(here), seed)
        weather.prepare()
        yield weather


def _check_machine(here: Place) -> None:
    here.output("local", "up")
    until(lambda: not list((here.files.store / "open").glob("*")), "nothing is open", 120)
    here.assert_no_orphans()
    assert all(psutil.pid_exists(pid) for pid in here.deployment.children.values())
    beside = [path.name for path in here.directory.iterdir() if ".partial-" in path.name or path.name.endswith(".tmp")]
    assert not beside, f"left beside the outputs: {beside}"
