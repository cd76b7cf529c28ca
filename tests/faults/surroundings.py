"""A fleet whose surroundings fail: real daemons whose way to S3 and SQS leads through proxies, in the middle of one product."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.acceptance.deployment import until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server
from tests.faults.proxy import Hurts, Proxy, between

SIDE = 2000
SLOW = Hurts(delay=1.0, delay_s=0.6)  # so that the product takes some seconds on any machine
DAEMONS = ("coordinator", "w1")


class Surroundings:
    """The fleet, what is between it and AWS, and a product of whole numbers that is right to the bit or wrong."""

    def __init__(self, made: Fleet, store: Proxy, queues: Proxy) -> None:
        self.fleet = made
        self.here = made.client
        self.store = store
        self.queues = queues
        self.operation = ""
        self._a = np.random.default_rng(6).integers(-9, 9, (SIDE, SIDE)).astype(float)

    def url(self, name: str) -> str:
        return self.here.user_url(name)

    def begin(self) -> None:
        """A product of which some jobs are done, and not all."""
        np.save(self.here.directory / "a.npy", self._a)
        self.operation = self.here.output("multiply", "a.npy", "a.npy", "--no-wait")
        self.store.hurts = SLOW
        until(lambda: self.n_done() > 0, "some of its jobs are done")

    def restart(self, name: str, inside: Sequence[str] = (), environment: dict[str, str] | None = None) -> None:
        """A daemon once more, inside of another command or in an environment of its own."""
        if name in self.fleet.daemons:
            self.fleet.stop(name)
        module, options = ("coordinator", ()) if name == "coordinator" else ("workerd", ("--name", name))
        is_up = "lead_taken" if name == "coordinator" else "worker_ready"
        n_before = len(self.fleet.events(name, is_up))
        self.fleet.start(module, name, *options, inside=inside, environment=environment)
        until(lambda: len(self.fleet.events(name, is_up)) > n_before, f"{name} is up")

    def configure(self, old: str, new: str) -> None:
        """What daemons find in their configuration from the next start on."""
        file = self.fleet.log("fleet").with_suffix(".toml")
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    def calm(self) -> None:
        """Nothing is in the way any more."""
        self.store.hurts = self.queues.hurts = Hurts()

    def n_done(self) -> int:
        names = [path.stem for path in self.fleet.logs() if path.stem.startswith("w")]
        return sum(line["operation"] == self.operation for name in names for line in self.fleet.events(name, "job_done"))

    def is_over(self) -> bool:
        return any(line["operation"] == self.operation for line in self.fleet.events("coordinator", "operation_ended"))

    def until_said(self, *words: str, by: tuple[str, ...] = DAEMONS) -> None:
        """Each of these daemons has logged an error with all these words."""
        until(lambda: all(self._has_said(name, words) for name in by), lambda: f"{by} say {words}")

    def _has_said(self, name: str, words: tuple[str, ...]) -> bool:
        return any(all(word in (line.get("error") or "") for word in words) for line in self.fleet.events(name))

    def assert_ends_right(self) -> None:
        """The product ends as if nothing had been, and no daemon has left."""
        self.calm()
        self.here.output("watch", self.operation, "--progress", "none")
        self.here.output("get", self.operation, "c.npy", "--overwrite")
        np.testing.assert_array_equal(np.load(self.here.directory / "c.npy"), self._a @ self._a)
        assert all(daemon.poll() is None for daemon in self.fleet.daemons.values()), "a daemon has left"

    def assert_nothing_failed(self) -> None:
        """No attempt of a job was lost to it."""
        assert not [line for name in DAEMONS for line in self.fleet.events(name, "job_failed")]


@contextmanager
def surroundings(directory: Path, server: Server, *workers: str) -> Iterator[Surroundings]:
    """Calm ones, to begin with."""
    bucket = server.new_bucket()
    with between(server.endpoint_url) as store, between(server.endpoint_url) as queues:
        config = fleet_config(Server(store.url), Server(queues.url), bucket)
        with fleet(directory, config, *workers) as made:
            yield Surroundings(made, store, queues)


def said(ended: subprocess.CompletedProcess[str]) -> str:
    """The one sentence with which a command has failed."""
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return " ".join(ended.stderr.split())
