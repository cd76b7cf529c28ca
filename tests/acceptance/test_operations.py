"""The life of operations: two at once, cancelling, Ctrl-C, leaving and coming back; the deployment goes when nobody needs it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until
from tilefleet.local import running

LARGE = 4000
CONFIG = f'{QUICK}[local]\nworkers = 2\nmemory = "600 MiB"\n'


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Matrices ``large`` and ``text``, whose products take some seconds, ``a`` and ``b``; a deployment that stays up."""
    rng = np.random.default_rng(8)
    with place(tmp_path_factory.mktemp("operations"), CONFIG) as made:
        np.save(made.directory / "large.npy", rng.standard_normal((LARGE, LARGE)) + 1j)
        np.save(made.directory / "a.npy", rng.integers(0, 10, (300, 200)))
        np.save(made.directory / "b.npy", rng.integers(0, 10, (200, 100)))
        np.savetxt(made.directory / "text.csv", rng.integers(0, 10, (3000, 200)), fmt="%d", delimiter=",")
        made.output("local", "up")
        yield made


def large(here: Place, *options: str) -> str:
    """A large product that is in the middle of its jobs."""
    operation = here.output("multiply", "large.npy", "large.npy", "--no-wait", *options)
    here.until_under_way(operation)
    return operation


@pytest.mark.thorough
def test_a_small_operation_does_not_wait_for_a_large_one(here: Place) -> None:
    first = large(here)
    ended = here.run("multiply", "a.npy", "b.npy", "-o", "small.npy")
    assert ended.returncode == 0, ended.stderr
    status = here.status(first)
    assert status is not None and not status.is_ended, "the large one should be running still"
    a, b = (np.load(here.directory / f"{name}.npy") for name in "ab")
    np.testing.assert_array_equal(np.load(here.directory / "small.npy"), a @ b)
    assert here.until_ended(first).state == "done"
    here.output("delete", first)
    assert not (here.files.store / "matrices" / first).exists()


@pytest.mark.parametrize("out", [*(pytest.param(out, marks=pytest.mark.thorough) for out in ("never.npy", "never.zarr")), None])
def test_cancelling_leaves_nothing_behind(here: Place, out: str | None) -> None:
    before = {path.name for path in here.directory.iterdir()}
    operation = large(here, *(["-o", out] if out else []))
    here.output("cancel", operation)
    assert here.until_ended(operation).state == "cancelled"
    here.assert_clean(operation)
    assert {path.name for path in here.directory.iterdir()} == before
    assert not (here.files.store / "matrices" / operation).exists()
    assert here.run("watch", operation).returncode == 12
    assert here.run("get", operation, "never.npy").returncode == 12


def test_ctrl_c_cancels_what_is_waited_for(here: Place) -> None:
    client = here.start("multiply", "large.npy", "large.npy", "-o", "never.npy", "--progress", "full")
    assert client.stderr is not None
    operation = client.stderr.readline().split()[1].rstrip(":")
    here.until_under_way(operation)
    client.send_signal(signal.SIGINT)
    output, error = client.communicate(timeout=60)
    assert (client.returncode, output) == (130, "")
    assert "Traceback" not in error
    assert here.until_ended(operation).state == "cancelled"
    here.assert_clean(operation)
    assert not (here.directory / "never.npy").exists()


def test_leaving_and_coming_back(here: Place) -> None:
    operation = here.output("multiply", "text.csv", "b.npy", "--no-wait")
    lines = [json.loads(line) for line in here.output("watch", operation[:6], "--json").splitlines()]
    assert (lines[-1]["id"], lines[-1]["state"]) == (operation, "done")
    here.output("get", operation, "product.csv.gz")
    text = np.loadtxt(here.directory / "text.csv", delimiter=",", dtype=int)
    expected = text @ np.load(here.directory / "b.npy")
    np.testing.assert_array_equal(np.loadtxt(here.directory / "product.csv.gz", delimiter=","), expected)
    assert here.run("get", operation, "product.csv.gz").returncode == 11
    assert operation in {one["id"] for one in here.json("list")["operations"]}
    assert here.json("verify", operation)["verdict"]
    here.output("delete", operation)
    assert here.run("show", operation).returncode == 4
    assert not (here.files.store / "matrices" / operation).exists()
    assert (here.directory / "product.csv.gz").exists()


@pytest.mark.thorough
def test_the_deployment_goes_when_its_work_is_done(here: Place) -> None:
    """--no-wait on a deployment that nobody keeps: it stays for the product, and then nothing of it runs."""
    here.output("local", "down")
    assert not here.processes()
    operation = here.output("transpose", "large.npy", "--no-wait")
    assert here.until_ended(operation).state == "done"
    until(lambda: running(here.config) is None and not here.processes(), "the deployment went")
    here.assert_clean(operation)
    found = here.json("show", operation)
    assert (found["state"], found["result"]["shape"]) == ("done", [LARGE, LARGE])
    here.output("get", operation, "turned.npy")
    np.testing.assert_array_equal(np.load(here.directory / "turned.npy"), np.load(here.directory / "large.npy").T)
    assert not here.processes(), "reading starts nothing"
