"""A deployment as its user has it: a directory with a configuration, the ``tilefleet`` command, and real processes.

The rule: whatever a test started is ended by its process id when the test ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from tilefleet import layout
from tilefleet.config import Config, load
from tilefleet.local import running
from tilefleet.local_state import Deployment, StateFiles
from tilefleet.records import OperationStatus, from_json

TILEFLEET = str(Path(sys.executable).with_name("tilefleet"))
DEADLINE_S = 60.0  # for anything to happen; nothing here asserts how fast

QUICK = """
[queues]
lease = "10 s"
[coordinator]
beacon = "500 ms"
worker_silence = "3 s"
job_target = "500 ms"
inbox = "2 s"
[worker]
heartbeat = "1 s"
"""
"""Small timings, so that what waits for a silence need not wait long; small jobs, so that there are many."""


class Place:
    """A directory in which somebody works with ``tilefleet``; its deployment, if it is the embedded one, is its own."""

    def __init__(self, directory: Path, config: str, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.files = StateFiles(directory / "state")
        (directory / "tilefleet.toml").write_text(config, encoding="utf-8")
        self.environment = {**os.environ, "TILEFLEET_STATE": str(self.files.root), **(environment or {})}
        self.started: list[subprocess.Popen[str]] = []

    @property
    def config(self) -> Config:
        return msgspec.structs.replace(load(self.directory / "tilefleet.toml"), local=self._local)

    @property
    def _local(self) -> Any:
        read = load(self.directory / "tilefleet.toml").local
        return msgspec.structs.replace(read, state_dir=str(self.files.root))

    def user_url(self, name: str) -> str:
        """A place of the user's own, beside the deployment's in the same bucket."""
        return f"{self.config.store.url.rsplit('/', 1)[0]}/user/{name}"

    # ---- the command

    def run(
        self, *arguments: str, timeout_s: float = DEADLINE_S, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            [TILEFLEET, *arguments], cwd=self.directory, env=self.environment | (environment or {}),
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def output(self, *arguments: str) -> str:
        """What a command prints that must succeed."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, f"{arguments}: {ended.stderr}"
        return ended.stdout.strip()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.output(*arguments, "--json"))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on meanwhile."""
        process = subprocess.Popen(
            [TILEFLEET, *arguments], cwd=self.directory, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    # ---- operations, as the store has them

    def status(self, operation: str) -> OperationStatus | None:
        keys = sorted((self.files.store / layout.statuses(operation)).glob("*.json"))
        return from_json(keys[-1].read_bytes(), OperationStatus, str(keys[-1])) if keys else None

    def until_under_way(self, operation: str, n_jobs: int = 2) -> None:
        """Wait until some of its jobs are done, and see that not all are: the test is in the middle of it."""
        until(lambda: _done(self.status(operation)) >= n_jobs, f"{operation} has {n_jobs} jobs done")
        status = self.status(operation)
        assert status is not None and not status.is_ended

    def until_ended(self, operation: str) -> OperationStatus:
        until(lambda: (status := self.status(operation)) is not None and status.is_ended, f"{operation} has ended")
        status = self.status(operation)
        assert status is not None
        return status

    def leftovers(self, operation: str) -> list[str]:
        """Everything in the store that an ended operation should not have left."""
        store = self.files.store
        kept = {"record.json", "cancel.json", "plan", "status"}
        found = [path for path in (store / "operations" / operation).glob("*") if path.name not in kept]
        found += list((store / "open").glob("*")) + list((store / "staging").glob("*"))
        return [str(path.relative_to(store)) for path in found]

    def assert_clean(self, operation: str) -> None:
        """Nothing temporary is left, as soon as the coordinator has cleaned up."""
        until(lambda: not self.leftovers(operation), lambda: f"nothing is left behind, but {self.leftovers(operation)}")
        beside = [path.name for path in self.directory.iterdir() if ".partial-" in path.name or path.name.endswith(".tmp")]
        assert not beside, f"left beside the output: {beside}"

    # ---- processes

    @property
    def deployment(self) -> Deployment:
        deployment = running(self.config)
        assert deployment is not None, "no deployment is running"
        return deployment

    def processes(self) -> list[psutil.Process]:
        """Every live process of the embedded deployment: they all work inside its state directory."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                is_dead = process.status() == psutil.STATUS_ZOMBIE
                if not is_dead and Path(process.cwd()).is_relative_to(self.files.root):
                    found.append(process)
        return found

    def assert_no_orphans(self) -> None:
        """Only the supervisor and its present children run."""
        wrong = "only the deployment's own processes run"
        until(lambda: {process.pid for process in self.processes()} == set(pids(self.deployment)), wrong)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process of the deployment: queues, coordinator, w1, w2 or supervisor."""
        deployment = self.deployment
        pid = deployment.pid if name == "supervisor" else deployment.children[name]
        os.kill(pid, number)
        return pid

    def log(self, name: str) -> list[dict[str, Any]]:
        """What a process of the deployment logged."""
        lines = self.files.log(name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def close(self) -> None:
        """End every process, the orderly way first."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("local", "down", timeout_s=30)
        for left in self.processes():
            with contextlib.suppress(psutil.Error):
                left.kill()
                left.wait(10)


@contextmanager
def place(directory: Path, config: str, environment: dict[str, str] | None = None) -> Iterator[Place]:
    """A Place; at its end all its processes are ended."""
    made = Place(directory, config, environment)
    try:
        yield made
    finally:
        made.close()


def pids(deployment: Deployment) -> list[int]:
    return [deployment.pid, *deployment.children.values()]


def until(is_so: Callable[[], bool], what: str | Callable[[], str], deadline_s: float = DEADLINE_S) -> None:
    """Wait until something is so; fail with ``what`` when it does not become so."""
    deadline = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < deadline, f"it never came true that {what() if callable(what) else what}"
        time.sleep(0.05)


def assert_agrees(found: Any, expected: np.ndarray, depth: int = 1, rounded: np.dtype | None = None) -> None:
    """Same shape and dtype; integers to the bit; floats within the rounding bound of sums of ``depth`` terms.

    ``rounded``: the least precise type on the way, when that is not the result's.
    """
    found = np.asarray(found)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(found, expected)
    else:
        is_coarser = rounded is not None and rounded.kind in "fc" and rounded.itemsize < expected.dtype.itemsize
        eps = float(np.finfo(rounded if is_coarser and rounded is not None else expected.dtype).eps)
        finite = np.abs(expected[np.isfinite(expected)])
        scale = float(finite.max()) if finite.size else 0.0
        np.testing.assert_allclose(found, expected, rtol=4 * eps * (depth + 4), atol=4 * eps * (depth + 4) * scale)


def _done(status: OperationStatus | None) -> int:
    return sum(stage.n_done for stage in status.stages) if status is not None else 0
