"""One look at a fleet from wherever somebody asks: machines, records, the leader, queues and store, all at once.

The rule: what cannot be had is a trouble with its sentence, never the end of the look; every question has a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from typing import TypeVar

import msgspec

from coordinator.fleet import here
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.observing import Ears
from coordinator.fleet.records import FleetRecord, Machine, NodeRecord
from coordinator.fleet.status import FleetPicture, Lead, picture
from coordinator.runtime.leadership import last_beacon
from tilefleet.errors import NotFound, TilefleetError
from tilefleet.sqs import SqsQueue, SqsQueues

T = TypeVar("T")
DEADLINE_S = 30.0  # for each question; those to AWS have shorter ones of their own
WATCH_BEATS = 3  # a beacon that seems old is watched so long for a change: our clock may be wrong
PROBE_S = 3.0  # for a machine to answer at its SSH port
MOST_OBJECTS = 50_000  # 50 requests; a store with more is not counted to its end


class QueueCounts(msgspec.Struct, frozen=True):
    """About how many messages a queue holds."""

    waiting: int
    in_flight: int
    dead: int


class StoreSize(msgspec.Struct, frozen=True):
    """What lies under the store's URL."""

    objects: int
    size_bytes: int
    is_all: bool
    """False: counting stopped, there is more."""


class Report(msgspec.Struct, frozen=True):
    """All that was found out. What could not be had is None, and ``troubles`` say why."""

    picture: FleetPicture
    is_made: bool = True
    """Whether there is a fleet: a record of it, or a machine."""
    queues: Mapping[str, QueueCounts] | None = None
    store: StoreSize | None = None
    here_pid: int | None = None
    """Process id of the coordinator of this machine."""
    here_log: str = ""
    troubles: tuple[str, ...] = ()


class Troubles:
    """What could not be had; what is absent is no trouble as long as there is no fleet."""

    def __init__(self) -> None:
        self.absent: list[str] = []
        self.others: list[str] = []


async def look(fleet: Fleet, ears: Ears, *, is_patient: bool = True) -> Report:
    """The fleet now. ``ears`` remember the leader from look to look; who is not patient does not wait for a silent one."""
    troubles = Troubles()
    machines, records, record, lead, queues, size = await asyncio.gather(
        _or_trouble(fleet.provider.machines(), list[Machine](), "the machines", troubles),
        _or_trouble(fleet.nodes.nodes(), list[NodeRecord](), "the records of the nodes", troubles),
        _or_trouble(fleet.nodes.fleet(), None, "the record of the fleet", troubles),
        _or_trouble(_leader(fleet, ears, is_patient=is_patient), None, "the coordinator's beacon", troubles),
        _or_trouble(_queues(fleet), None, "the queues", troubles),
        _or_trouble(_size(fleet), None, "the store", troubles),
    )
    found = _picture(machines, records, record, lead, {})
    silent = [machine for machine in machines if machine.node in {view.name for view in found.nodes if view.state == "silent"}]
    if silent and fleet.config.nodes.transport == "ssh":
        found = _picture(machines, records, record, lead, await _answering(silent))
    log = str(fleet.files.coordinator_log)
    is_made = record is not None or any(machine.launched_at and machine.state != "gone" for machine in machines)
    told = troubles.others + (troubles.absent if is_made else [])
    return Report(found, is_made, queues, size, here.running_pid(fleet.files), log, tuple(dict.fromkeys(told)))


async def _leader(fleet: Fleet, ears: Ears, *, is_patient: bool) -> Lead | None:
    if (control := await ears.listen()) is not None:
        return Lead(control, is_alive=True, since=ears.led_since)
    last = await last_beacon(fleet.store)
    beat_s = fleet.config.coordinator.beacon.s
    for _ in range(2 * WATCH_BEATS if is_patient and last is not None and last.leader else 0):
        await asyncio.sleep(beat_s / 2)
        if (control := await ears.listen()) is not None:
            return Lead(control, is_alive=True, since=ears.led_since)
    return Lead(last, is_alive=False) if last is not None else None


def _picture(
    machines: list[Machine], records: list[NodeRecord], record: FleetRecord | None, lead: Lead | None, answers: dict[str, bool]
) -> FleetPicture:
    return picture(machines, records, lead, time.time(), answers=answers, fleet=record)


async def _or_trouble(question: Awaitable[T], otherwise: T, what: str, troubles: Troubles) -> T:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await question
    except NotFound as error:
        troubles.absent.append(str(error))
    except TilefleetError as error:
        troubles.others.append(f"{what} cannot be told: {error}")
    except TimeoutError:
        troubles.others.append(f"{what} cannot be told: no answer within {DEADLINE_S:.0f} s")
    return otherwise


async def _queues(fleet: Fleet) -> dict[str, QueueCounts]:
    async with SqsQueues(fleet.config.queues, fleet.config.fleet.name) as queues:
        main = (queues.operations, queues.jobs, queues.completions)
        counted = await asyncio.gather(*(_counts(queue, queues.dead(queue)) for queue in main))
    return {queue.name: counts for queue, counts in zip(main, counted, strict=True)}


async def _counts(queue: SqsQueue, dead: SqsQueue) -> QueueCounts:
    (waiting, in_flight), (dead_waiting, dead_in_flight) = await asyncio.gather(queue.count(), dead.count())
    return QueueCounts(waiting, in_flight, dead_waiting + dead_in_flight)


async def _size(fleet: Fleet) -> StoreSize:
    objects = size_bytes = 0
    async for entry in fleet.store.entries(""):
        if objects == MOST_OBJECTS:
            return StoreSize(objects, size_bytes, is_all=False)
        objects += 1
        size_bytes += entry.size_bytes
    return StoreSize(objects, size_bytes, is_all=True)


async def _answering(machines: Iterable[Machine]) -> dict[str, bool]:
    """Whether each machine answers at its SSH port."""
    machines = list(machines)
    answered = await asyncio.gather(*(_answers(machine) for machine in machines))
    return dict(zip((machine.node for machine in machines), answered, strict=True))


async def _answers(machine: Machine) -> bool:
    if not machine.address:
        return False
    try:
        async with asyncio.timeout(PROBE_S):
            _, writer = await asyncio.open_connection(machine.address, machine.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
