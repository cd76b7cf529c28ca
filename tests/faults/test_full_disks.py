"""A disk that is full where daemons keep their logs and notes, while there is room for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until
from tests.acceptance.disks import small_disk
from tests.faults.surroundings import said
from tilefleet.errors import DoesNotFit

CONFIG = f'{QUICK}[local]\nworkers = 1\nmemory = "400 MiB"\n'
N = 1200


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 4) as made:
        yield made


@pytest.fixture
def here(tmp_path: Path, disk: Path) -> Iterator[Place]:
    """A deployment whose state is on that disk, but for its store."""
    (tmp_path / "work").mkdir()
    (tmp_path / "store").mkdir(mode=0o700)
    state = disk / "state"
    state.mkdir(mode=0o700)
    (state / "store").symlink_to(tmp_path / "store")
    with place(tmp_path / "work", CONFIG, {"TILEFLEET_STATE": str(state)}) as made:
        made.files = type(made.files)(state)
        np.save(made.directory / "a.npy", np.random.default_rng(7).integers(-9, 9, (N, N)))
        made.output("local", "up")
        yield made


def fill(disk: Path) -> Path:
    """Until nothing more goes onto it."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def product(here: Place) -> None:
    here.output("multiply", "a.npy", "a.npy", "-o", "c.npy", "--overwrite")
    a = np.load(here.directory / "a.npy")
    np.testing.assert_array_equal(np.load(here.directory / "c.npy"), a @ a)


@pytest.mark.thorough
def test_a_full_disk_of_logs_holds_nothing_up(here: Place, disk: Path) -> None:
    """What is logged meanwhile is lost, and nothing else; who dies is started again."""
    before = here.deployment
    filler = fill(disk)
    here.kill("w1")
    here.output("multiply", "a.npy", "a.npy", "-o", "c.npy")
    a = np.load(here.directory / "a.npy")
    np.testing.assert_array_equal(np.load(here.directory / "c.npy"), a @ a)
    n_lines = len(here.log("coordinator"))
    filler.unlink()
    until(lambda: here.deployment.children.get("w1", before.children["w1"]) != before.children["w1"], "it is written who runs")
    assert here.deployment.pid == before.pid
    assert here.deployment.children["coordinator"] == before.children["coordinator"]
    here.output("random", "9x9", "r.npy", "--seed", "1")
    until(lambda: len(here.log("coordinator")) > n_lines, "it logs again")


def test_a_deployment_that_has_no_room_to_start_says_so(here: Place, disk: Path) -> None:
    here.output("local", "down")
    filler = fill(disk)
    ended = here.run("local", "up")
    assert ended.returncode == DoesNotFit.exit_code
    assert f"the disk that holds {here.files.root} is full" in said(ended)
    filler.unlink()
    here.output("local", "up")
