"""Speed-up from one node to four: real nodes under systemd, 0.35 core each. A process of its own measures, as root on Linux."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from benchmarks import places
from benchmarks.rounds import Case
from benchmarks.surroundings import environment
from benchmarks.works import Bench, Outcome, Work

CORES_EACH = 0.35
N, MOST_ROUNDS = 8192, 2  # four minutes each, on a quick machine
DEADLINE_S = 3000.0
PROGRAMS = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "ip": "iproute2", "nsenter": "util-linux"}


def _nodes(bench: Bench) -> Outcome:
    if why := why_not():
        return Outcome(skipped=why)
    if bench.is_quick:
        return Outcome(skipped="seven nodes take longer to boot than a quick run may")
    bench.pool.only(())
    n, rounds = bench.sizes[0] if bench.sizes else N, min(bench.rounds, MOST_ROUNDS)
    command = [sys.executable, "-m", "benchmarks.nodes", f"{n}", f"{rounds}"]
    done = subprocess.run(
        command, cwd=places.ROOT, env=environment(), stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    about = {"kind": "multiply", "m": n, "k": n, "n": n, "dtype": "int64", "cores_each": CORES_EACH}
    return Outcome([Case(f"{count} nodes", about | {"nodes": int(count)}, {"tilefleet": runs}) for count, runs in found.items()])


def why_not() -> str:
    """Why nodes do not run on this machine; empty when they do."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "nodes are containers, which need root on Linux"
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return f"packages are missing: apt-get install {' '.join(missing)}" if missing else ""


WORKS = (Work("nodes", "the same int64 product on 1, 2 and 4 nodes of 0.35 core each; exact in every row", _nodes),)
