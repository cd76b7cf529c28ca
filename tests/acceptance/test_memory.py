"""Matrices larger than the memory of any process: each stays below what is configured, the client included."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.deployment import QUICK, place

MIB = 2**20
BUDGET = 320 * MIB
N = 3000  # complex128: 137 MiB each for A, B and C, read and written in many jobs

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux's /proc")


@pytest.mark.thorough
def test_every_process_stays_within_its_memory(tmp_path: Path) -> None:
    config = f'{QUICK}[local]\nworkers = 2\nmemory = "{BUDGET // MIB} MiB"\n'
    with place(tmp_path, config) as here:
        here.output("local", "up")
        for name, seed in (("a.zarr", "1"), ("b.npy", "2")):
            here.output("random", f"{N}x{N}", name, "--dtype", "complex128", "--low=-1", "--seed", seed)
        peaks: dict[str, int] = {}
        for arguments in (
            ("multiply", "a.zarr", "b.npy", "-o", "c.npy"),
            ("multiply", "b.npy", "a.zarr", "--transpose-a", "--no-wait"),
        ):
            peaks[" ".join(arguments)] = peak_of(here.start(*arguments))
        operation = here.json("list")["operations"][0]["id"]
        assert here.run("watch", operation, "--progress", "none").returncode == 0
        peaks["get"] = peak_of(here.start("get", operation, "d.npy"))
        deployment = here.deployment
        peaks["supervisor"] = peak_bytes(deployment.pid)
        peaks |= {name: peak_bytes(pid) for name, pid in deployment.children.items()}
        restarts = [line for line in here.log("supervisor") if line["event"] == "child_ended"]
        assert not restarts, "a process that was started again has forgotten its peak"
        assert {name: peak // MIB for name, peak in peaks.items() if peak > BUDGET} == {}
        assert min(peaks["w1"], peaks["w2"]) > 150 * MIB, "the workers did the work, and so their peaks mean something"
        c, d = (np.load(tmp_path / name, mmap_mode="r") for name in ("c.npy", "d.npy"))
        b = np.load(tmp_path / "b.npy", mmap_mode="r")
        x = np.random.default_rng(1).standard_normal(N)
        a_x = np.asarray(_zarr(tmp_path / "a.zarr") @ (b @ x))
        np.testing.assert_allclose(c @ x, a_x, rtol=0, atol=1e-9 * float(np.abs(a_x).max()))
        b_x = b.T @ (_zarr(tmp_path / "a.zarr") @ x)
        np.testing.assert_allclose(d @ x, b_x, rtol=0, atol=1e-9 * float(np.abs(b_x).max()))


def _zarr(path: Path) -> np.ndarray:
    import zarr

    return np.asarray(zarr.open_array(path, mode="r")[:])


def peak_of(process: subprocess.Popen[str]) -> int:
    """The largest resident set of a command, which must succeed; looked at until it ends."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_bytes(process.pid))
        time.sleep(0.02)
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert peak > 10 * MIB
    return peak


def peak_bytes(pid: int) -> int:
    """VmHWM: the largest resident set so far; 0 for a process that has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0
