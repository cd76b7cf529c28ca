"""The scheduler before a simulated fleet of thousands, with failures and stragglers, in a process of its own, on one core."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks import places
from benchmarks.children import machine_cpu_s
from benchmarks.rounds import Case
from benchmarks.surroundings import environment
from benchmarks.works import Bench, Outcome, Work

FULL = (10_000, 1_000)  # workers, and side of the square of jobs
QUICK = (500, 141)
MOST_ROUNDS = 2  # minutes each
DEADLINE_S = 1800.0


def _scale(bench: Bench) -> Outcome:
    n_workers, side = QUICK if bench.is_quick else FULL
    case = Case(f"{n_workers:,} workers, {side**2:,} jobs", {"n_workers": n_workers, "n_jobs": side**2})
    bench.pool.only(())
    for seed in range(1, min(bench.rounds, MOST_ROUNDS) + 1):
        run = once(n_workers, side, seed)
        case.add("scheduler", run)
        bench.say(f"  {case.name}, seed {seed}: {sentence(run)}")
    return Outcome([case])


def once(n_workers: int, side: int, seed: int) -> dict[str, Any]:
    """One fleet's figures; the whole's time is ``s``, its processor's ``cpu_s``, the scheduler's share among the parts."""
    command = [sys.executable, "-m", "benchmarks.fleet_of_thousands", f"{n_workers}", f"{side}", f"{seed}"]
    before_s = machine_cpu_s()
    done = subprocess.run(
        command, cwd=places.ROOT, env=environment(), check=True, capture_output=True, text=True, timeout=DEADLINE_S
    )
    others_s = max(0.0, machine_cpu_s() - before_s)
    figures = json.loads(done.stdout)
    wall_s, cpu_s = figures.pop("wall_s"), figures.pop("cpu_s")
    parts_s = {"scheduler": figures.pop("core_s"), "beacon": figures.pop("beacon_s")}
    return {"s": wall_s, "parts_s": parts_s, "facts": figures, "cpu_s": cpu_s, "others_cpu_s": max(0.0, others_s - cpu_s)}


def measures(run: dict[str, Any]) -> dict[str, float]:
    """What the goals are about; the beacon is told of beside the scheduler, whose state it shows to people every 2 s."""
    facts, scheduler_s = run["facts"], run["parts_s"]["scheduler"]
    return {
        "events_per_s": facts["events"] / scheduler_s,
        "scheduler_ms_per_job": 1e3 * scheduler_s / facts["n_jobs"],
        "beacon_ms_per_job": 1e3 * run["parts_s"]["beacon"] / facts["n_jobs"],
        "makespan_per_ideal": facts["makespan_s"] / facts["ideal_s"],
        "peak_mb": facts["peak_bytes"] / 1e6,
    }


def sentence(run: dict[str, Any]) -> str:
    """For people."""
    measured = measures(run)
    return (
        f"{run['s']:.0f} s ({run['cpu_s']:.0f} s of CPU), {measured['events_per_s']:,.0f} events/s, "
        f"{measured['scheduler_ms_per_job']:.3f} ms per job and {measured['beacon_ms_per_job']:.3f} of the beacon, "
        f"makespan {measured['makespan_per_ideal']:.3f} × ideal, {measured['peak_mb']:.0f} MB at most"
    )


WORKS = (Work("scale", "10,000 simulated workers, 1,000,000 jobs, failures and stragglers, one core; every job once", _scale),)
