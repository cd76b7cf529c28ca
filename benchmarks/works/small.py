"""The smallest operation, 100 × 100: from a connected client, submit to result in memory; and as a command, deployment up."""

from __future__ import annotations

import numpy as np

from benchmarks import places
from benchmarks.rounds import Case
from benchmarks.works import Bench, Outcome, Work

N = 100
FEWEST = 15  # it is short, so a median of more costs nothing


def _small(bench: Bench) -> Outcome:
    case = Case(f"{N}² float64", {"kind": "multiply", "m": N, "k": N, "n": N, "dtype": "float64", "flops": 2 * N**3})
    file, out = places.INPUTS / "small.npy", places.OUTPUTS / "small.npy"
    np.save(file, np.random.default_rng(1).standard_normal((N, N)))
    (child,), _ = bench.pool.only(("tilefleet",))
    for number in range(FEWEST):
        case.add("client", child.do("small", n=N))
        if bench.is_quick and number >= bench.rounds:
            continue
        out.unlink(missing_ok=True)
        case.add("command", child.do("command", arguments=["multiply", "--quiet", str(file), str(file), "-o", str(out)]))
        assert np.allclose(np.load(out), np.load(file) @ np.load(file))
        case.add("command that does nothing", child.do("command", arguments=["version"]))
    return Outcome([case])


WORKS = (Work("small", "100 × 100 from a connected client, and as a command; NumPy", _small),)
