"""A cancel at any moment, until after the end: what is done is right, what is cancelled left nothing half-made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until
from tests.faults.queues import messages

MOMENTS = 6
SIDE = 700


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("race"), f'{QUICK}[local]\nworkers = 2\nmemory = "500 MiB"\n') as made:
        np.save(made.directory / "a.npy", np.random.default_rng(7).integers(-9, 9, (SIDE, SIDE)))
        made.output("local", "up")
        yield made


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["out.npy", "out.zarr"])
def test_a_cancel_at_any_moment_leaves_a_whole_result_or_none(here: Place, name: str) -> None:
    out, before = here.directory / name, {path.name for path in here.directory.iterdir()}
    began = time.monotonic()
    ended = [submitted(here, name)]
    assert here.until_ended(ended[0]).state == "done"
    took_s = time.monotonic() - began
    for moment in range(MOMENTS):
        removed(out)
        ended.append(submitted(here, name))
        time.sleep(took_s * moment / (MOMENTS - 1))
        for _ in range(2):
            here.output("cancel", ended[-1])
        status = here.until_ended(ended[-1])
        here.assert_clean(ended[-1])
        assert status.state in ("done", "cancelled"), status.error
        assert status.state == "cancelled" or out.exists()
        assert not out.exists() or is_right(here, name)
    removed(out)
    assert {path.name for path in here.directory.iterdir()} == before
    until(lambda: not messages(here), lambda: f"no message is left, but {messages(here)}")


def submitted(here: Place, name: str) -> str:
    return here.output("multiply", "a.npy", "a.npy", "-o", name, "--no-wait")


def removed(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)


def is_right(here: Place, name: str) -> bool:
    here.output("convert", name, "found.npy", "--overwrite")
    a, found = (np.load(here.directory / file) for file in ("a.npy", "found.npy"))
    removed(here.directory / "found.npy")
    return bool(np.array_equal(found, a @ a))
