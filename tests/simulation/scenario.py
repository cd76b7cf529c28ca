"""What the simulated world is asked to do, the hostile run that one seed stands for, and by when it must be over."""

from __future__ import annotations

from random import Random
from typing import Any

from coordinator.core import patience
from coordinator.core.plans import Plan
from coordinator.core.settings import SchedulerSettings
from coordinator.core.stragglers import OVERDUE_S
from coordinator.runtime.effects import PATIENCE_S
from coordinator.runtime.leadership import SILENT_BEATS
from tests.simulation.faults import CALM, Habits
from tests.simulation.store import url_of
from tests.simulation.terms import INBOX_S
from tests.simulation.world import USUAL, Cast, World
from tilefleet import layout
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import OperationRecord, Output, RandomSpec

SETTINGS = SchedulerSettings("test", "file:///store", job_target_s=1e-3, lease_s=20.0, worker_silence_s=12.0, max_attempts=12)
HUNG_AT_MOST_S = 7 * OVERDUE_S + patience.LET_GO_AT_MOST_S
"""All that hangs began to in the time of faults; of one job it may have been the first three attempts."""
FAULTS_S = 45.0
"""How long everything goes wrong."""

# What a seed may switch on, each to between these bounds; whatever it leaves alone stays as in a calm world.
FAULTS: dict[str, tuple[float, float]] = {
    "worker_dies": (0.0005, 0.004), "slow_worker": (0.1, 0.5), "stall": (0.01, 0.1), "fail": (0.02, 0.2), "wrong": (0.02, 0.2),
    "hang": (0.02, 0.2), "hungry": (0.05, 0.5), "duplicate": (0.02, 0.3), "undeleted": (0.02, 0.3), "queue_error": (0.01, 0.15),
    "lose_message": (0.005, 0.05), "store_error": (0.01, 0.15), "answer_lost": (0.01, 0.15), "slow_answer": (0.01, 0.1),
    "coordinator_dies": (0.0002, 0.002), "coordinator_crash_every_s": (5.0, 30.0), "coordinator_stall_every_s": (10.0, 40.0),
    "rival_every_s": (5.0, 40.0), "queue_lost_every_s": (10.0, 40.0), "drain_every_s": (5.0, 30.0),
    "outage_every_s": (10.0, 40.0),
}  # fmt: skip


def zarr(name: str, shape: tuple[int, int], tile: int = 256) -> MatrixRef:
    return MatrixRef(f"file:///in/{name}", "zarr", shape, "float64", (tile, tile), is_ours=True)


def product(op: str, n: int = 1024, *, tile: int = 256, out: str | None = None) -> OperationRecord:
    a, b = Operand(zarr("a.zarr", (n, n), tile)), Operand(zarr("b.zarr", (n, n), tile))
    form: Any = "csv" if out and out.endswith("csv") else "zarr"
    return OperationRecord(op, "multiply", a, b, tile=(tile, tile), out=Output(out, form))


def thin_product(op: str) -> OperationRecord:
    """Of so few blocks that k is split: partial products, then their sum."""
    a, b = Operand(zarr("a.zarr", (256, 65536))), Operand(zarr("b.zarr", (65536, 256)))
    return OperationRecord(op, "multiply", a, b, tile=(256, 256))


def csv_sum(op: str) -> OperationRecord:
    csv = MatrixRef("file:///in/x.csv.gz", "csv", size_bytes=1000, is_gzip=True)
    return OperationRecord(op, "add", Operand(csv), Operand(csv), out=Output(f"file:///out/{op}.csv", "csv"))


def checked(op: str) -> OperationRecord:
    """The verification of a product that was made before."""
    a, b, c = (zarr(f"{name}.zarr", (1024, 1024)) for name in "abc")
    return OperationRecord(op, "verify", Operand(a), Operand(b), verifies="000000000000", verifies_kind="multiply", checked=c)


def record(kind: int, op: str) -> OperationRecord:
    """One of each kind of plan, by turns."""
    kinds = (
        lambda: product(op), lambda: csv_sum(op), lambda: product(op, 768, out=f"file:///out/{op}.csv"),
        lambda: OperationRecord(op, "random", random=RandomSpec((1500, 1000), "int64", "0", "10", kind), tile=(256, 256)),
        lambda: product(op, 768, out=f"file:///out/{op}.zarr"), lambda: thin_product(op), lambda: checked(op),
        lambda: product(op, 768, out=f"s3://bucket/{op}.zarr"),
    )  # fmt: skip
    return kinds[kind % len(kinds)]()


def mixed(count: int, first: int = 0) -> list[OperationRecord]:
    return [record(first + index, f"0000000000{index:02d}") for index in range(count)]


def ends_as(world: World) -> dict[str, str]:
    statuses = {op: world.believed(op) for op in world.records()}
    return {op: status.state if status else "?" for op, status in statuses.items()}


def drawn_habits(random: Random) -> Habits:
    """Some faults and not others (swarm testing, Groce et al., ISSTA 2012): each is at its worst where few others interfere."""
    share = random.choice((0.15, 0.3, 0.6))
    chosen = {name: random.uniform(*bounds) for name, bounds in FAULTS.items() if random.random() < share}
    if random.random() < 0.7:  # a hang takes a quarter of an hour to be noticed, which takes long to simulate
        chosen.pop("hang", None)
    slowness = random.choice((5.0, 20.0, 100.0))
    outage_s, restart_s = random.choice((5.0, 12.0, 100.0)), random.choice((1.0, 3.0, 20.0))
    return CALM._replace(
        is_steady=False, job_s=random.choice((0.3, 1.5, 4.0)), slowness=slowness, outage_s=outage_s, restart_s=restart_s, **chosen
    )


def bound_s(world: World) -> float:
    """When everything must have ended that is open now, if nothing more goes wrong.

    Somebody leads again, lists what is open, and hears which workers live. Then each part of a plan waits at most once for
    each way in which an attempt can be lost, and for the jobs themselves, of which the slowest may have begun already.
    """
    settings, habits = world.settings, world.habits
    lead_s = habits.restart_s + (SILENT_BEATS + 3) * settings.beacon_s + habits.coordinator_stall_s
    hears_s = INBOX_S + 2 * settings.heartbeat_s + habits.stall_s + settings.worker_silence_s
    total = lead_s + hears_s + world.outage_left_s + (HUNG_AT_MOST_S if world.has_hung else 0.0)
    for operation in world.records():
        plan: Plan | None = world.store.get(url_of(layout.plan(operation, "main")))
        stages = plan.stages if plan is not None else ()
        n_jobs = sum(stage.n_jobs for stage in stages) or 40
        unheld_s = 2 * settings.lease_s + 4 * settings.jobs_per_worker * max((stage.job_s for stage in stages), default=1.0)
        lost_s = settings.worker_silence_s + unheld_s + patience.LONGEST_RETRY_S + habits.stall_s
        total += (len(stages) + 4) * lost_s + n_jobs * 3 * habits.job_s * 4
    return total


def hostile(seed: int, cast: Cast = USUAL, faults: Habits | None = None) -> World:
    """Everything goes wrong for a while, then nothing more. Raises AssertionError when a rule is broken.

    ``faults``: these and no others.
    """
    random = Random(seed)
    habits = drawn_habits(random)
    habits = habits if faults is None else faults
    jobs_s = random.choice((1e-3, 20.0))
    settings = SchedulerSettings(
        "test", "file:///store", job_target_s=jobs_s, lease_s=20.0, worker_silence_s=12.0, max_attempts=12
    )
    world = World(
        seed, habits, n_workers=random.randint(2, 5), settings=settings, cast=cast, is_one_machine=random.random() < 0.5,
        max_receives=random.choice((3, 5)), n_coordinators=random.choice((1, 1, 2)),
    )  # fmt: skip
    records = mixed(random.randint(1, 3), random.randrange(8))
    for each in records:
        world.at(random.choice((0.0, 0.0, random.uniform(0, FAULTS_S))), lambda each=each: world.submit(each))  # type: ignore[misc]
    cancelled = records[0].id if random.random() < 0.2 else ""
    if cancelled:
        world.at(random.uniform(0, FAULTS_S), lambda: world.cancel(cancelled))
    world.at(FAULTS_S, world.become_calm)
    world.run(lambda: world.is_over, FAULTS_S + 1)
    world.run(world.all_ended, bound_s(world))
    let_go_s = patience.LET_GO_AT_MOST_S if world.has_hung else 0.0
    world.run(lambda: not any(term.scheduler.operations for term in world.terms()), 60.0 + world.outage_left_s + let_go_s)
    ended = ends_as(world)
    for operation, state in ended.items():
        assert state in _allowed(world, operation, cancelled), (seed, operation, world.believed(operation))
    world.invariants.all_is_quiet()
    if faults is not None and faults.is_calm:
        again = [key for key, n in world.ledger.computed.items() if n > 1]
        assert not again, f"in a world without faults, {again} were computed more than once"
    return world


def _allowed(world: World, operation: str, cancelled: str) -> set[str]:
    """How an operation may end: well; as it was asked to; or badly, when one of its jobs was struck again and again, or the
    store was away for longer than anybody is patient."""
    worst = max((n for key, n in world.ledger.troubles.items() if key[0] == operation), default=0)
    is_struck = worst >= world.max_receives - 1 or world.longest_outage_s > PATIENCE_S - 10
    return {"done"} | ({"cancelled"} if operation == cancelled else set()) | ({"failed"} if is_struck else set())
