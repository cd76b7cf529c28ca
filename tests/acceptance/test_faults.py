"""Any process may be killed in the middle of a product: it completes after the restart, exact, and nothing is left behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until

N = 2048  # complex: four times the arithmetic of real numbers; some seconds on two cores
CONFIG = f'{QUICK}[local]\nworkers = 2\nmemory = "400 MiB"\n'


@pytest.fixture(scope="module")
def operands() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small whole numbers as complex128: every sum is exact in any order, so a result is right to the bit or wrong."""
    rng = np.random.default_rng(3)
    parts = rng.integers(-9, 10, (4, N, N)).astype(float)
    a, b = parts[0] + 1j * parts[1], parts[2] + 1j * parts[3]
    return a, b, a @ b


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, operands: tuple[np.ndarray, ...]) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("faults"), CONFIG) as made:
        np.save(made.directory / "a.npy", operands[0])
        np.save(made.directory / "b.npy", operands[1])
        made.output("local", "up")
        yield made


@pytest.fixture
def product(here: Place) -> Iterator[str]:
    """A product to OUT that is in the middle of its jobs."""
    operation = here.output("multiply", "a.npy", "b.npy", "-o", "c.npy", "--overwrite", "--no-wait")
    here.until_under_way(operation)
    yield operation
    (here.directory / "c.npy").unlink(missing_ok=True)


def assert_exact(here: Place, operation: str, operands: tuple[np.ndarray, ...]) -> None:
    status = here.until_ended(operation)
    assert status.state == "done", status.error
    np.testing.assert_array_equal(np.load(here.directory / "c.npy"), operands[2])
    here.assert_clean(operation)
    here.assert_no_orphans()


THOROUGH = [pytest.param(names, marks=pytest.mark.thorough) for names in ("w1", "w1 w2", "coordinator", "queues")]


@pytest.mark.parametrize("names", [*THOROUGH, "w2 coordinator queues"])
def test_killed(here: Place, product: str, operands: tuple[np.ndarray, ...], names: str) -> None:
    killed = [here.kill(name) for name in names.split()]
    assert_exact(here, product, operands)
    assert not set(killed) & set(here.deployment.children.values())


def test_the_supervisor_is_killed(here: Place, product: str, operands: tuple[np.ndarray, ...]) -> None:
    """Its children go with it; the next command starts all of it again, and the product goes on."""
    before = here.processes()
    here.kill("supervisor")
    until(lambda: not any(process.is_running() for process in before), "the children went with their supervisor")
    assert not (here.directory / "c.npy").exists()
    here.output("local", "up")
    assert_exact(here, product, operands)


def test_the_client_is_killed(here: Place, operands: tuple[np.ndarray, ...]) -> None:
    client = here.start("multiply", "a.npy", "b.npy", "-o", "c.npy", "--overwrite", "--progress", "full")
    assert client.stderr is not None
    operation = client.stderr.readline().split()[1].rstrip(":")
    here.until_under_way(operation)
    client.kill()
    client.wait()
    assert_exact(here, operation, operands)


def test_a_worker_drains(here: Place, product: str, operands: tuple[np.ndarray, ...]) -> None:
    """SIGTERM: it finishes or gives back what it holds and leaves with status 0; the others and its successor do the rest."""
    pid = here.kill("w1", signal.SIGTERM)
    until(lambda: not psutil.pid_exists(pid), "the worker left")
    ended = [line for line in here.log("w1") if line["event"] == "worker_stopped"][-1]
    assert ended["status"] == 0
    assert "drained" in {line["event"] for line in here.log("w1")}
    assert_exact(here, product, operands)
    (stop,) = [line for line in _supervisor(here) if line.get("child") == "w1" and line.get("status") == 0]
    assert stop["event"] == "child_ended"


@pytest.mark.thorough
def test_the_coordinator_is_restarted(here: Place, product: str, operands: tuple[np.ndarray, ...]) -> None:
    pid = here.kill("coordinator", signal.SIGTERM)
    until(lambda: not psutil.pid_exists(pid), "the coordinator left")
    assert "stopped" in {line["event"] for line in here.log("coordinator")}
    assert_exact(here, product, operands)
    assert [line for line in _supervisor(here) if line.get("child") == "coordinator" and line.get("status") == 0]
    status = here.status(product)
    assert status is not None
    assert status.totals.jobs < 2 * sum(stage.n_jobs for stage in status.stages), "what was done is not done again"


def _supervisor(here: Place) -> list[dict[str, object]]:
    return here.log("supervisor")


def test_nothing_was_left_in_the_directory(here: Place, tmp_path: Path) -> None:
    names = {path.name for path in here.directory.iterdir()}
    assert names == {"a.npy", "b.npy", "state", "tilefleet.toml"}
