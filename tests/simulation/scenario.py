"""What the simulated world is asked to do, and the hostile run that one seed stands for."""

from __future__ import annotations

from typing import Any

from coordinator.core.settings import SchedulerSettings
from tests.simulation.world import Habits, World
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import OperationRecord, Output, RandomSpec

SETTINGS = SchedulerSettings("test", "file:///store", job_target_s=1e-3, lease_s=20.0, worker_silence_s=12.0, max_attempts=12)


def zarr(name: str, shape: tuple[int, int], tile: int = 256) -> MatrixRef:
    return MatrixRef(f"file:///in/{name}", "zarr", shape, "float64", (tile, tile), is_ours=True)


def product(op: str, n: int = 2048, *, tile: int = 256, out: str | None = None) -> OperationRecord:
    a, b = Operand(zarr("a.zarr", (n, n), tile)), Operand(zarr("b.zarr", (n, n), tile))
    form: Any = "csv" if out and out.endswith("csv") else "zarr"
    return OperationRecord(op, "multiply", a, b, tile=(tile, tile), out=Output(out, form))


def csv_sum(op: str) -> OperationRecord:
    csv = MatrixRef("file:///in/x.csv.gz", "csv", size_bytes=1000, is_gzip=True)
    return OperationRecord(op, "add", Operand(csv), Operand(csv), out=Output("file:///out/y.csv", "csv"))


def mixed(count: int) -> list[OperationRecord]:
    made = []
    for index in range(count):
        op = f"0000000000{index:02d}"
        spec = RandomSpec((3000, 2000), "int64", "0", "10", index)
        kinds = (product(op), csv_sum(op), product(op, out="file:///out/c.csv"), OperationRecord(op, "random", random=spec))
        made.append(kinds[index % len(kinds)])
    return made


def ends_as(world: World) -> dict[str, str]:
    return {op: stored.status.state if stored.status else "?" for op, stored in world.store.items()}


def hostile(seed: int) -> World:
    """Everything goes wrong for two minutes, then nothing more. Raises AssertionError when a rule is broken."""
    habits = Habits(
        coordinator_crash_every_s=25.0 if seed % 3 == 0 else 0.0, queue_lost_every_s=40.0 if seed % 4 == 1 else 0.0,
        drain_every_s=10.0 if seed % 7 == 2 else 0.0,
    )  # fmt: skip
    world = World(seed, habits, n_workers=2 + seed % 7, settings=SETTINGS)
    for index, record in enumerate(mixed(2 + seed % 4)):
        world.at(index * 7.0 * (seed % 2), lambda record=record: world.submit(record))  # type: ignore[misc]
    if seed % 5 == 0:
        world.at(20.0, lambda: world.cancel("000000000000") if "000000000000" in world.store else None)
    world.at(120.0, world.become_calm)
    world.run(lambda: world.now > 1060 and world.all_ended(), 7200)
    ended = ends_as(world)
    allowed = {"done", "cancelled"} if seed % 5 == 0 else {"done"}
    assert set(ended.values()) <= allowed, (seed, ended)
    assert not any(run for run in world.scheduler.operations.values()), "nothing stays in memory"
    return world
