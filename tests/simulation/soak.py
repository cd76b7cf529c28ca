"""Many seeds of the hostile world: ``python -m tests.simulation.soak N [FIRST]``, or ``--seconds S [FIRST]``; N = 1 replays one.

On all cores, unless ``--processes`` says how many. Exit status 1 when a seed failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from itertools import count, islice

from tests.simulation.scenario import hostile

Outcome = tuple[int, int, str]
"""Seed, events, and why it failed."""


def say(text: str) -> None:
    """On standard output, now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def n_cores() -> int:
    """Those that this process was given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tried(seed: int) -> Outcome:
    """One seed."""
    try:
        return seed, hostile(seed).invariants.n_events, ""
    except Exception:  # noqa: BLE001 - a bug of any kind is what is looked for
        return seed, 0, traceback.format_exc()


def main() -> None:
    """Run seeds; print those that fail, why, and how to replay them."""
    options = _parser().parse_args()
    failed: list[int] = []
    n_seeds = n_events = 0
    began = time.monotonic()
    for seed, events, why in _outcomes(options, began):
        n_seeds, n_events = n_seeds + 1, n_events + events
        if why:
            failed.append(seed)
            say(f"seed {seed}: replay it with  python -m tests.simulation.soak 1 {seed}\n{why}")
        if n_seeds % 1000 == 0:
            say(f"{n_seeds} seeds, {len(failed)} failed")
    took_s = time.monotonic() - began
    say(f"{n_seeds} seeds from {options.first}, {n_events} events, {took_s:.0f} s, {len(failed)} failed: {failed}")
    sys.exit(1 if failed else 0)


def _outcomes(options: argparse.Namespace, began: float) -> Iterator[Outcome]:
    seeds: Iterator[int] = count(options.first) if options.seconds else iter(range(options.first, options.first + options.n))
    n_processes = options.processes or n_cores()
    if n_processes == 1 or options.n == 1:
        results = map(tried, seeds)
        yield from _until(results, began, options.seconds)
        return
    with multiprocessing.get_context("spawn").Pool(n_processes) as pool:
        while chunk := list(islice(seeds, 200)):
            yield from pool.imap_unordered(tried, chunk, chunksize=5)
            if options.seconds and time.monotonic() - began > options.seconds:
                pool.close()
                return


def _until(outcomes: Iterator[Outcome], began: float, seconds: float) -> Iterator[Outcome]:
    for outcome in outcomes:
        yield outcome
        if seconds and time.monotonic() - began > seconds:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.soak", description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=1000, help="how many seeds")
    parser.add_argument("first", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("--seconds", type=float, default=0.0, help="as many seeds as take that long, instead")
    parser.add_argument("--processes", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
