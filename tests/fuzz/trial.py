"""One input at one door: how it went, within how long, and with how much memory."""

from __future__ import annotations

import random
import resource
import signal
from types import FrameType
from typing import Any, NamedTuple

from tests.fuzz.doors import Door, doors
from tests.fuzz.mutation import mutated
from tilefleet.errors import TilefleetError

LONGEST_S = 10.0  # a door answers in milliseconds
MOST_GROWTH_BYTES = 512 * 2**20  # of the process, over one input


class Trouble(NamedTuple):
    """An input that a door did not answer as it should."""

    door: str
    seed: int
    what: str
    data: bytes


class Tried(NamedTuple):
    """How many inputs, and which of them were trouble."""

    n_inputs: int
    troubles: list[Trouble]


class TooLongError(Exception):
    """The door did not answer in time."""


def tried(name: str, first_seed: int, count: int) -> Tried:
    """Mutated inputs of these seeds at one door."""
    door, troubles = _doors()[name], []
    for seed in range(first_seed, first_seed + count):
        data = mutated(random.Random(f"{name}/{seed}"), door.seeds)
        if (what := trouble_with(door, data)) is not None:
            troubles.append(Trouble(name, seed, what, data))
    return Tried(count, troubles)


def trouble_with(door: Door, data: bytes) -> str | None:
    """What is wrong with how a door takes this; None when nothing is."""
    before = _peak_bytes()
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        door.open(data)
    except TilefleetError as error:
        if not str(error).replace("\n", "").isprintable():
            return f"its sentence has control characters: {str(error)!r}"
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what we look for
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = _peak_bytes() - before
    return f"it took {grown / 2**20:.0f} MiB" if grown > MOST_GROWTH_BYTES else None


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TooLongError(f"no answer in {LONGEST_S:.0f} s")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_KNOWN: dict[str, Any] = {}


def _doors() -> dict[str, Door]:
    if not _KNOWN:
        _KNOWN.update(doors())
    return _KNOWN
