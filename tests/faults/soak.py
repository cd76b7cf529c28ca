"""``python -m tests.faults.soak --seconds 1800``: a storm of kills and faults, then faults alone, in which nothing grows.

Every result is compared; in the end memory, open files and threads of the daemons are what they were after the first operations,
and no temporary file is left.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.acceptance.fleet import Fleet
from tests.conftest import moto
from tests.faults.proxy import Hurts
from tests.faults.storm import STORM, Storm
from tests.faults.storms import over_a_fleet, over_one_machine

WARM_OPERATIONS = 15  # until what is loaded late is loaded
MORE_BYTES, MORE_FILES, MORE_THREADS = 48 * 2**20, 16, 8


class Held(NamedTuple):
    """What a process holds."""

    memory_bytes: int
    files: int
    threads: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.partition(":")[0])
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--faults", type=int, default=1000)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        temporary = Path(directory) / "tmp"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)  # of all that we start
        (Path(directory) / "moto").mkdir()
        (Path(directory) / "machine").mkdir()
        with over_one_machine(Path(directory) / "machine", given.seed) as weather:
            _say(f"seed {given.seed}: {given.kills // 2} kills of an embedded deployment")
            weather.rage(given.kills // 2, 0)
            weather.check_calm()
            _say(weather.report())
        with moto(Path(directory) / "moto") as server, over_a_fleet(Path(directory), server, given.seed) as (weather, made):
            _say(f"{given.kills // 2} kills and {given.faults} faults of a fleet")
            weather.rage(given.kills // 2, given.faults)
            weather.check_calm()
            _say(weather.report())
            grown = _soaked(weather, made, began + given.seconds)
            weather.check_calm()
        left = sorted(path.name for path in temporary.iterdir())
    _say("\n".join([*grown, *(f"left behind: {name}" for name in left)]) or "nothing grew, nothing is left")
    return 1 if grown or left else 0


def _soaked(weather: Storm, made: Fleet, until: float) -> list[str]:
    """Operations with faults and without kills; what grew meanwhile, in words."""
    for proxy in weather.proxies:
        proxy.hurts = STORM
    for _ in range(WARM_OPERATIONS):
        weather.operate()
    before = held(made)
    while time.monotonic() < until:
        weather.operate()
    for proxy in weather.proxies:
        proxy.hurts = Hurts()
    time.sleep(5)
    after = held(made)
    _say(weather.report())
    for name in before:
        _say(f"{name}: {before[name]} -> {after[name]}")
    return [f"{name} grew: {before[name]} -> {after[name]}" for name in before if _has_grown(before[name], after[name])]


def held(made: Fleet) -> dict[str, Held]:
    """By daemon."""
    found = {}
    for name, daemon in made.daemons.items():
        process = psutil.Process(daemon.pid)
        with process.oneshot():
            found[name] = Held(process.memory_info().rss, process.num_fds(), process.num_threads())
    return found


def _has_grown(before: Held, after: Held) -> bool:
    return (
        after.memory_bytes > before.memory_bytes + MORE_BYTES
        or after.files > before.files + MORE_FILES
        or after.threads > before.threads + MORE_THREADS
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
