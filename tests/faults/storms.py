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
from tests.faults.queues import messages
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

            def kill(name: str, pause_s: float) -> None:
                made.stop(name, signal.SIGKILL)
                time.sleep(pause_s)
                module, options = ("workerd", ("--name", name)) if name in WORKERS else ("coordinator", ())
                made.start(module, name, *options)

            victims = (*WORKERS, *COORDINATORS)
            place_of, check = (lambda name: here.user_url(f"{name}.zarr")), (lambda: _check_fleet(made, to_store))
            weather = Storm(here, place_of, victims, kill, check, seed, proxies)
            weather.prepare()
            yield weather, made


def _check_fleet(made: Fleet, to_store: Proxy) -> None:
    """Calm weather: the queues empty themselves, no operation is open, every daemon that was started lives, once."""
    until(lambda: not messages(made.client), lambda: f"the queues are empty, but {messages(made.client)}", 120)
    until(lambda: not _open(made, to_store), lambda: f"nothing is open, but {_open(made, to_store)}", 120)
    assert sorted(made.daemons) == sorted((*WORKERS, *COORDINATORS))
    assert all(daemon.poll() is None for daemon in made.daemons.values())


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
