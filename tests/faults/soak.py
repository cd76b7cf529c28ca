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

from tests.conftest import moto
from tests.faults.proxy import Hurts
from tests.faults.storm import STORM, Storm, storm

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
        with moto(Path(directory) / "moto") as server, storm(Path(directory), server, server, given.seed) as weather:
            _say(f"seed {given.seed}: {given.kills} kills and {given.faults} faults")
            weather.rage(given.kills, given.faults)
            weather.assert_nothing_is_left()
            _say(weather.report())
            grown = _soaked(weather, began + given.seconds)
            weather.assert_nothing_is_left()
        left = sorted(path.name for path in temporary.iterdir())
    _say("\n".join([*grown, *(f"left behind: {name}" for name in left)]) or "nothing grew, nothing is left")
    return 1 if grown or left else 0


def _soaked(weather: Storm, until: float) -> list[str]:
    """Operations with faults and without kills; what grew meanwhile, in words."""
    for proxy in weather.proxies:
        proxy.hurts = STORM
    for _ in range(WARM_OPERATIONS):
        weather.operate()
    before = held(weather)
    while time.monotonic() < until:
        weather.operate()
    for proxy in weather.proxies:
        proxy.hurts = Hurts()
    time.sleep(5)
    after = held(weather)
    _say(weather.report())
    for name in before:
        _say(f"{name}: {before[name]} -> {after[name]}")
    return [f"{name} grew: {before[name]} -> {after[name]}" for name in before if _has_grown(before[name], after[name])]


def held(weather: Storm) -> dict[str, Held]:
    """By daemon."""
    found = {}
    for name, daemon in weather.fleet.daemons.items():
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
