"""A fleet in a storm: daemons are killed and restarted, AWS fails, while a client asks for one operation after the other.

The rules: who dies when, and what is hurt, is drawn from a seed; every result is compared to the bit; in the end nothing is left
behind: no process, no message, no object that belongs to nobody.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import numpy as np
from botocore.config import Config

from tests.acceptance.deployment import Place, until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server
from tests.faults.proxy import Hurts, Proxy, between

SIDE = 1200
STORM = Hurts(
    refuse=0.02, lose=0.02, throttle=0.02, reset=0.015, cut_off=0.015, truncate=0.02, corrupt=0.02, delay=0.05, black_hole=0.002,
    repeat=0.1, delay_s=0.5,
)  # fmt: skip
WORKERS = ("w1", "w2", "w3")
COORDINATORS = ("coordinator", "stand-by")
PAUSE_S = (0.2, 1.5)  # between two kills
LEAST_OPERATIONS = 5
DEADLINE_S = 300.0  # for one operation, in the worst of storms


@dataclass
class Storm:
    """What is going on. ``kills``: by whom."""

    fleet: Fleet
    proxies: tuple[Proxy, Proxy]
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    n_right: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._ends = threading.Event()
        rng = np.random.default_rng(self.seed)
        self._matrices = {name: rng.integers(-1000, 1000, (SIDE, SIDE)) for name in "abc"}

    @property
    def here(self) -> Place:
        return self.fleet.client

    @property
    def n_faults(self) -> int:
        return sum(proxy.n_hurt for proxy in self.proxies)

    def prepare(self) -> None:
        """Operands in S3, before the storm."""
        for name, matrix in self._matrices.items():
            np.save(self.here.directory / f"{name}.npy", matrix)
            self.here.output("convert", f"{name}.npy", self.url(name))

    def url(self, name: str) -> str:
        return f"{self.here.config.store.url.rsplit('/', 1)[0]}/user/{name}.zarr"

    def rage(self, n_kills: int, n_faults: int) -> None:
        """Operations, until that many kills and faults have happened; each is right to the bit."""
        for proxy in self.proxies:
            proxy.hurts = STORM
        killer = threading.Thread(target=self._kill, args=(n_kills,), name="killer")
        killer.start()
        try:
            while self.n_right < LEAST_OPERATIONS or killer.is_alive() or self.n_faults < n_faults:
                self.operate()
        finally:
            self._ends.set()
            killer.join()
            for proxy in self.proxies:
                proxy.hurts = Hurts()

    def _kill(self, n_kills: int) -> None:
        """kill -9 of one daemon after the other; each is started again after a moment, as systemd does."""
        draw = random.Random(self.seed + 1)
        for _ in range(n_kills):
            if self._ends.wait(draw.uniform(*PAUSE_S)):
                return
            name = draw.choice((*WORKERS, *COORDINATORS))
            self.fleet.stop(name, signal.SIGKILL)
            self.kills[name] += 1
            self._ends.wait(draw.uniform(0, 0.5))
            self.start(name)

    def start(self, name: str) -> None:
        if name in WORKERS:
            self.fleet.start("workerd", name, "--name", name)
        else:
            self.fleet.start("coordinator", name)

    def operate(self) -> None:
        """One operation, with a right result."""
        left, right = (self._random.choice("abc") for _ in range(2))
        kind = self._random.choice(("multiply", "multiply", "add", "subtract"))
        a, b = self._matrices[left], self._matrices[right]
        expected = {"multiply": lambda: a @ b, "add": lambda: a + b, "subtract": lambda: a - b}[kind]()
        out = f"result-{self.n_right % 4}"
        command = (kind, self.url(left), self.url(right), "-o", self.url(out), "--overwrite")
        self._until_done(command)
        self.fetched(out, expected)
        self.n_right += 1

    def _until_done(self, command: tuple[str, ...]) -> None:
        """Ask until it is done. The client dies, too, now and then; its operation then goes on, or ends with an error by name."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            client = self.here.start(*command)
            if self._random.random() < 0.15:
                time.sleep(self._random.uniform(0.2, 2.0))
                if client.poll() is None:
                    client.kill()
                    self.kills["client"] += 1
            try:
                _, said = client.communicate(timeout=max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise AssertionError(f"{command} hangs") from error
            assert "Traceback" not in said, said
            if client.returncode == 0:
                return
            assert client.returncode in (-signal.SIGKILL, *EXPECTED), f"{command} ended with {client.returncode}: {said}"
        raise AssertionError(f"{command} was never done")

    def fetched(self, name: str, expected: np.ndarray) -> None:
        """Read it back, with the same store as hurt as ever."""
        local = self.here.directory / f"{name}.npy"
        deadline = time.monotonic() + DEADLINE_S
        while (ended := self.here.run("convert", self.url(name), str(local), "--overwrite", timeout_s=DEADLINE_S)).returncode:
            assert ended.returncode in EXPECTED, ended.stderr
            assert time.monotonic() < deadline, ended.stderr
        np.testing.assert_array_equal(np.load(local), expected)
        local.unlink()

    def report(self) -> str:
        """For people."""
        hurt = sum((proxy.counts for proxy in self.proxies), Counter())
        return f"{self.n_right} operations right; killed: {dict(self.kills)}; {self.n_faults} faults of {dict(hurt)}"

    def assert_nothing_is_left(self) -> None:
        """Calm weather: the queues empty themselves, no operation is open, every daemon that was started lives, once."""
        until(lambda: not self._messages(), lambda: f"the queues are empty, but {self._messages()}", 120)
        until(lambda: not self._objects("open/"), lambda: f"nothing is open, but {self._objects('open/')}", 120)
        assert sorted(self.fleet.daemons) == sorted((*WORKERS, *COORDINATORS))
        assert all(daemon.poll() is None for daemon in self.fleet.daemons.values())

    def _messages(self) -> dict[str, int]:
        """By queue, what is in it or leased; dead letters, too."""
        client = boto3.client("sqs", endpoint_url=self.proxies[1].target, region_name="us-east-1")
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        try:
            urls = client.list_queues(QueueNamePrefix=f"{self.here.config.fleet.name}-")["QueueUrls"]
            found = {
                url.rsplit("/", 1)[-1]: client.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))["Attributes"]
                for url in urls
            }
        finally:
            client.close()
        return {url: n for url, counts in found.items() if (n := sum(int(counts[name]) for name in names))}

    def _objects(self, below: str) -> list[str]:
        bucket, prefix = self.here.config.store.url.removeprefix("s3://").split("/", 1)
        path_style = Config(s3={"addressing_style": "path"})
        client = boto3.client("s3", endpoint_url=self.proxies[0].target, region_name="us-east-1", config=path_style)
        try:
            found = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/{below}").get("Contents", [])
        finally:
            client.close()
        return [item["Key"] for item in found]


EXPECTED = (7, 8, 11)  # unreachable, failed, being written by an operation whose client died: asked again


@contextmanager
def storm(directory: Path, store: Server, queues: Server, seed: int) -> Iterator[Storm]:
    """Two coordinators and three workers, and the client, behind proxies."""
    bucket = store.new_bucket()
    with between(store.endpoint_url, seed=seed) as to_store, between(queues.endpoint_url, seed=seed + 1) as to_queues:
        config = fleet_config(Server(to_store.url), Server(to_queues.url), bucket)
        with fleet(directory, config, *WORKERS) as made:
            made.start("coordinator", "stand-by")
            weather = Storm(made, (to_store, to_queues), seed)
            weather.prepare()
            yield weather
