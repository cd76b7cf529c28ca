"""What one job costs the coordinator in processor time, all included: the real daemon before workers that are played."""

from __future__ import annotations

import asyncio
import shutil

from benchmarks import places
from benchmarks.played_fleet import N_WORKERS, play, play_many
from benchmarks.rounds import Case
from benchmarks.standin import sqs
from benchmarks.works import Bench, Outcome, Work

OPEN = (1, 60, 500)


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


def _load(bench: Bench) -> Outcome:
    n_jobs = 1000 if bench.is_quick else 10_000
    cases = [Case(f"{n:,} open operations", {"n_jobs": n_jobs, "n_operations": n}) for n in OPEN]
    bench.pool.only(())
    for number in range(1 if bench.is_quick else bench.rounds):
        for case, n_operations in zip(cases, OPEN, strict=True):
            directory = places.STATES / f"played-{n_operations}-{number}"
            shutil.rmtree(directory, ignore_errors=True)
            with sqs() as variables:
                found = asyncio.run(play_many(directory, variables["AWS_ENDPOINT_URL_SQS"], n_operations, n_jobs))
            shutil.rmtree(directory)
            facts = {"ms_per_job": found["ms_per_job"], "jobs_per_s": found["jobs"] / found["s"], "memory_mb": found["memory_mb"]}
            case.add("tilefleet", {"s": found["s"], "parts_s": {}, "facts": facts, "cpu_s": found["cpu_s"], "others_cpu_s": 0.0})
            said = ", ".join(f"{name} {value:.4g}" for name, value in facts.items())
            bench.say(f"  {case.name}: {said}")
    return Outcome(cases)


WORKS = (
    Work("load", "the same with 1, 60 and 500 operations open at once, none of which ends: jobs per second must not fall", _load),
    Work(
        "coordinator", "processor time of the whole coordinator per job, its workers being played; every job once", _coordinator
    ),
)
