"""A worker that gets less memory than it was told: its jobs are done in smaller parts."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.deployment import QUICK, Place, place

CONFIG = QUICK.replace('job_target = "500 ms"', 'job_target = "60 s"') + '[local]\nworkers = 1\nmemory = "1 GiB"\n'
N, K = 3600, 6000  # so deep that one job is planned: two would have to share what is left
MIB = 2**20
LEFT_BYTES = 90 * MIB  # the block of that job takes 99 MiB, and a quarter of it 25

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux changes the limits of a process that runs")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path, CONFIG) as made:
        rng = np.random.default_rng(1)
        for name, shape in (("a", (N, K)), ("b", (K, N))):
            np.save(made.directory / f"{name}.npy", rng.integers(-9, 9, shape).astype(float))
        made.output("local", "up")
        yield made


def test_what_memory_does_not_suffice_for_is_done_in_smaller_parts(here: Place) -> None:
    worker = here.deployment.children["w1"]
    resource.prlimit(worker, resource.RLIMIT_DATA, (data_bytes(worker) + LEFT_BYTES, resource.RLIM_INFINITY))
    operation = here.json("multiply", "a.npy", "b.npy")["id"]
    failed = [line for line in here.log("w1") if line["event"] == "job_failed"]
    assert {(line["job"], line["code"]) for line in failed} == {("multiply/0", "does_not_fit")}
    assert "Unable to allocate" in failed[0]["error"]
    assert any(line.get("parts", 1) > 1 for line in here.log("w1") if line["event"] == "job_done")
    assert here.deployment.children["w1"] == worker, "it lives"
    resource.prlimit(worker, resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    here.output("get", operation, "c.npy")
    expected = np.load(here.directory / "a.npy") @ np.load(here.directory / "b.npy")
    np.testing.assert_array_equal(np.load(here.directory / "c.npy"), expected)


def data_bytes(pid: int) -> int:
    """What counts against RLIMIT_DATA."""
    found = re.search(r"VmData:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
