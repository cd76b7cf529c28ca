"""Results under attack: tiles that rot in the store, arithmetic that is wrong, a job that kills whoever takes it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until
from tests.faults.badly import ENVIRONMENT
from tilefleet import layout
from tilefleet.records import Control, from_json

FEW_JOBS = ('job_target = "500 ms"', 'job_target = "60 s"')
CONFIG = f'{QUICK.replace(FEW_JOBS[0], FEW_JOBS[1])}[local]\nworkers = 2\nmemory = "500 MiB"\n'
N = 1500


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    rng = np.random.default_rng(4)
    with place(tmp_path_factory.mktemp("results"), CONFIG) as made:
        np.save(made.directory / "a.npy", rng.integers(-9, 9, (N, N)))
        made.output("local", "up")
        yield made


def kept_product(here: Place) -> tuple[str, Path, np.ndarray]:
    """A product that the fleet keeps: its id, where its tiles lie, and what it is."""
    operation = here.json("multiply", "a.npy", "a.npy")["id"]
    return operation, here.files.store / layout.result(operation) / "c", square(here)


def square(here: Place) -> np.ndarray:
    """Of ``a.npy``, by BLAS, in which integers as small as these are exact."""
    a = np.load(here.directory / "a.npy").astype(float)
    return np.asarray((a @ a).astype(np.int64))


def turn_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


def test_a_tile_that_rots_or_goes_is_noticed_named_and_computed_again(here: Place) -> None:
    operation, tiles, expected = kept_product(here)
    found = sorted(path for path in tiles.rglob("*") if path.is_file())
    turn_a_bit(found[0])
    found[-1].unlink()
    ended = here.run("scale", str(tiles.parent), "2", "-o", "twice.npy")
    assert ended.returncode in (3, 4), ended.stderr
    assert f"'tilefleet repair {operation}' computes it again" in " ".join(ended.stderr.split())
    assert not (here.directory / "twice.npy").exists()
    assert here.json("repair", operation)["repaired"] == [[0, 0], [int(part) for part in found[-1].parts[-2:]]]
    here.output("get", operation, "again.npy", "--overwrite")
    np.testing.assert_array_equal(np.load(here.directory / "again.npy"), expected)
    assert here.json("repair", operation)["repaired"] == []
    assert here.json("verify", operation)["verdict"]
    here.assert_clean(operation)


def test_what_is_the_users_own_is_not_repaired(here: Place) -> None:
    operation = here.json("multiply", "a.npy", "a.npy", "-o", "mine.zarr", "--overwrite")["id"]
    ended = here.run("repair", operation)
    assert ended.returncode == 3
    assert "which is yours; compute it again with --overwrite" in " ".join(ended.stderr.split())


def control(here: Place) -> Control:
    keys = sorted((here.files.store / layout.CONTROL).glob("*.json"))
    return from_json(keys[-1].read_bytes(), Control, str(keys[-1]))


def holders(here: Place, operation: str) -> dict[str, str]:
    """The workers that compute a job of it now: name by incarnation."""
    return {view.incarnation: view.name for view in control(here).workers if any(job.startswith(operation) for job in view.jobs)}


def dead_letters(here: Place) -> list[dict[str, str]]:
    letters: list[dict[str, str]] = here.json("dead", "list")["letters"]
    return letters


def is_purged(here: Place) -> bool:
    """Whether none is left, nor came meanwhile: the queue gives up a job of the dead when it would deliver it once more."""
    if letters := dead_letters(here):
        here.output("dead", "purge", *(one["name"] for one in letters), "--yes")
    return here.output("dead", "list") == "no dead letters"


def test_a_job_that_kills_whoever_takes_it_is_given_up_by_name_and_the_fleet_survives(here: Place) -> None:
    np.save(here.directory / "poison.npy", np.ones((2800, 2800), np.complex128))
    operation = here.output("multiply", "poison.npy", "poison.npy", "--no-wait")
    killed: set[str] = set()
    while (status := here.status(operation)) is None or not status.is_ended:
        for incarnation, name in holders(here, operation).items():
            if incarnation not in killed:  # the beacon shows the dead for a while
                killed.add(incarnation)
                with suppress(ProcessLookupError, KeyError):
                    os.kill(here.deployment.children[name], signal.SIGKILL)
        time.sleep(0.1)
    assert status.state == "failed"
    assert status.error is not None
    assert f"of operation {operation} was given up after 4 attempts: worker w" in status.error.sentence
    letters = dead_letters(here)
    assert {one["operation"] for one in letters} == {operation}
    letter = next(one for one in letters if one["reason"] == status.error.sentence)  # the queue may have given up others
    assert '"type":"gemm"' in letter["body"]
    assert "nobody would wait for it" in " ".join(here.run("dead", "redrive", letter["name"]).stderr.split())
    until(lambda: is_purged(here), "there are no dead letters")
    kept_product(here)
    here.assert_clean(operation)


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Place]:
    """A deployment one of whose workers multiplies wrongly, now and then by a single bit."""
    rng = np.random.default_rng(5)
    with place(tmp_path, CONFIG, ENVIRONMENT) as made:
        np.save(made.directory / "a.npy", rng.integers(-9, 9, (N, N)))
        made.output("local", "up")
        yield made


def test_a_worker_whose_arithmetic_is_wrong_is_not_believed_and_set_aside(broken: Place) -> None:
    expected = square(broken)
    wrong: dict[str, int] = {}
    for _ in range(10):
        status = broken.json("multiply", "a.npy", "a.npy", "-o", "c.npy", "--overwrite")
        np.testing.assert_array_equal(np.load(broken.directory / "c.npy"), expected)
        for worker, count in status["wrong_results"].items():
            wrong[worker] = wrong.get(worker, 0) + count
        if wrong.get("w1", 0) >= 3:
            break
    assert set(wrong) == {"w1"}
    until(lambda: "w1" in control(broken).departed, "w1 is set aside")
    assert {view.name for view in control(broken).workers} == {"w2"}, control(broken)
    assert "did not pass their check" in broken.output("local", "status")
    until(lambda: "set_aside" in {line["event"] for line in broken.log("w1")}, "it knows")
