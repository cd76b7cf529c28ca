"""A clock that is wrong by ten minutes: AWS refuses what is signed by it. libfaketime makes it so, for the whole process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.faults.surroundings import Surroundings, said, surroundings
from tilefleet.errors import NotAllowed

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))

pytestmark = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not here (Debian: faketime)")


class Clock:
    """Of the processes in whose environment it is; it may be set while they run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip

    def set(self, offset: str) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(offset, encoding="utf-8")
        partial.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def far(tmp_path: Path, moto_server: Server) -> Iterator[Surroundings]:
    with surroundings(tmp_path, moto_server, "w1") as made:
        yield made


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["w1", "coordinator"])
def test_a_clock_that_goes_wrong_is_named_and_waited_for(far: Surroundings, clock: Clock, name: str) -> None:
    far.restart(name, environment=clock.environment)
    far.begin()
    clock.set("-10m" if name == "w1" else "+10m")
    far.until_said("clock of this machine is wrong", "10 minutes", by=(name,))
    assert not far.is_over(), "it was in the middle of it"
    clock.set("+0")
    far.assert_ends_right()
    far.assert_nothing_failed()
    assert far.store.counts["skewed"] + far.queues.counts["skewed"] > 0


def test_who_starts_with_a_wrong_clock_says_so_and_ends(far: Surroundings, clock: Clock) -> None:
    """systemd starts a daemon again: when the clock is right it comes up by itself."""
    clock.set("+10m")
    ended = far.here.run("list", environment=clock.environment)
    assert ended.returncode == NotAllowed.exit_code
    assert re.search(r"clock of this machine is wrong \((10|9) minutes fast\).*timedatectl", said(ended))
    far.fleet.start("workerd", "w2", "--name", "w2", environment=clock.environment)
    assert far.fleet.daemons.pop("w2").wait(timeout=60) == NotAllowed.exit_code
    assert "timedatectl" in far.fleet.log("w2").read_text()
