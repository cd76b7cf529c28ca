"""The smallest operation, 100 × 100: from a connected client, submit to result in memory; and as a command, deployment up."""

from __future__ import annotations

import shutil

import numpy as np

from benchmarks import places
from benchmarks.children import Child
from benchmarks.rounds import Case
from benchmarks.works import Bench, Outcome, Work

N = 100
FEWEST = 15  # it is short, so a median of more costs nothing


def _small(bench: Bench) -> Outcome:
    case = Case(f"{N}² float64", {"kind": "multiply", "m": N, "k": N, "n": N, "dtype": "float64", "flops": 2 * N**3})
    file, out = places.INPUTS / "small.npy", places.OUTPUTS / "small.npy"
    np.save(file, np.random.default_rng(1).standard_normal((N, N)))
    with Child("tilefleet") as child:
        for _ in range(max(FEWEST, bench.rounds)):
            case.add("client", child.do("small", n=N))
            out.unlink(missing_ok=True)
            case.add("command", child.do("command", arguments=["multiply", "--quiet", str(file), str(file), "-o", str(out)]))
            assert np.allclose(np.load(out), np.load(file) @ np.load(file))
            case.add("command that does nothing", child.do("command", arguments=["version"]))
    shutil.rmtree(out, ignore_errors=True)
    bench.say(f"  {case.name}: " + ", ".join(f"{name} {sorted(case.times(name))[FEWEST // 2]:.3f} s" for name in case.runs))
    return Outcome([case])


WORKS = (Work("small", "100 × 100 from a connected client, and as a command; NumPy", _small),)
