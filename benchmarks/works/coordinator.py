"""What one job costs the coordinator in processor time, all included: the real daemon before workers that are played."""

from __future__ import annotations

import asyncio
import shutil

from benchmarks import places
from benchmarks.played_fleet import N_WORKERS, play
from benchmarks.rounds import Case
from benchmarks.standin import sqs
from benchmarks.works import Bench, Outcome, Work


def _coordinator(bench: Bench) -> Outcome:
    side = 22 if bench.is_quick else 100
    case = Case(f"{side**2:,} jobs, {N_WORKERS} workers", {"n_jobs": side**2, "n_workers": N_WORKERS})
    bench.pool.only(())
    for number in range(1 if bench.is_quick else bench.rounds):
        directory = places.STATES / f"played-{number}"
        shutil.rmtree(directory, ignore_errors=True)
        with sqs() as variables:
            found = asyncio.run(play(directory, variables["AWS_ENDPOINT_URL_SQS"], side))
        shutil.rmtree(directory)
        facts = {"ms_per_job": found["ms_per_job"]}
        case.add("tilefleet", {"s": found["s"], "parts_s": {}, "facts": facts, "cpu_s": found["cpu_s"], "others_cpu_s": 0.0})
        bench.say(f"  {case.name}: {found['ms_per_job']:.2f} ms of CPU per job, {found['jobs'] / found['s']:,.0f} jobs/s")
    return Outcome([case])


WORKS = (
    Work(
        "coordinator", "processor time of the whole coordinator per job, its workers being played; every job once", _coordinator
    ),
)
