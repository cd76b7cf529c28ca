"""What lies in the object store about an operation and about the fleet: JSON objects, read by people and programs.

The record is the client's word and never changes. The status is the leader's word and is rewritten. Times of day are
seconds since 1970 (UTC); durations are seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from tilefleet.dtypes import DtypeName
from tilefleet.errors import BadInput, ErrorInfo
from tilefleet.ids import OperationId
from tilefleet.matrix import MatrixRef, Operand

VERSION = 1
Version = Annotated[int, msgspec.Meta(ge=1, le=VERSION)]
T = TypeVar("T")

Kind = Literal["multiply", "add", "subtract", "scale", "transpose", "random", "convert", "verify"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset(("done", "failed", "cancelled"))


class RandomSpec(msgspec.Struct, frozen=True):
    """Elements uniform in [low, high): integers for integer types, reals otherwise (both parts of complex ones)."""

    shape: tuple[int, int]
    dtype: DtypeName
    low: str
    high: str
    seed: int


class Output(msgspec.Struct, frozen=True):
    """Where the result shall appear: a path or URL the workers can write, or None for the operation's own prefix."""

    url: str | None = None
    format: Literal["zarr", "npy", "csv"] = "zarr"
    is_overwrite: bool = False
    is_gzip: bool = False


class OperationRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the user asked for: ``alpha * op(A) @ op(B) + beta * C`` (multiply), ``op(A) ± op(B)``, ``alpha * op(A)``, …"""

    id: OperationId
    kind: Kind
    a: Operand | None = None
    b: Operand | None = None
    c: Operand | None = None
    alpha: str | None = None
    beta: str | None = None
    random: RandomSpec | None = None
    verifies: OperationId | None = None
    """verify: the operation whose result is checked; its operands are in a, b, c and its result in ``checked``."""
    verifies_kind: Kind | None = None
    checked: MatrixRef | None = None
    out: Output = Output()
    csv_dtype: DtypeName | None = None
    """Element type to read CSV operands with; None: the widest their text needs."""
    dtype: DtypeName | None = None
    """convert: element type of the result; None: that of the operand."""
    tile: tuple[int, int] | None = None
    """Tile of the result; None: the planner's choice."""
    submitted_at: float = 0.0
    submitted_by: str = ""
    submit_s: float = 0.0
    """How long the client took before it wrote this: looking at the inputs, staging them."""
    command: str = ""
    """The command line or call, for people."""
    names: dict[str, str] = {}
    """For people: the user's own path of an operand that was copied for the fleet (``a``, ``b``, ``c``), and of an OUT that the
    client fetches (``out``), where workers see neither."""
    v: Version = VERSION


class StageStatus(msgspec.Struct, frozen=True):
    """One stage of the plan: its jobs and its time from first job sent to last job done."""

    name: str
    phase: str
    n_jobs: int
    n_done: int
    n_running: int = 0
    elapsed_s: float = 0.0


class Totals(msgspec.Struct, frozen=True):
    """Sums over the finished jobs of an operation. The ``_s`` are worker time, so they add up over workers."""

    jobs: int = 0
    attempts: int = 0
    waited_s: float = 0.0
    fetched_s: float = 0.0
    computed_s: float = 0.0
    checked_s: float = 0.0
    committed_s: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    flops: int = 0
    check_worst: float | None = None
    checked_jobs: int = 0
    mismatches: int = 0


class OperationStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an operation is, as the leader of ``epoch`` saw it."""

    id: OperationId
    state: State
    epoch: int
    kind: Kind = "multiply"
    updated_at: float = 0.0
    accepted_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    expires_at: float | None = None
    """When a result under the operation's own prefix is removed; None: never, or it is the user's own file."""
    note: str = ""
    """What it is waiting for, when that is not plain from the stages."""
    stages: tuple[StageStatus, ...] = ()
    phases_s: dict[str, float] = {}
    """Wall time by phase: submit, ingest, plan, queue_wait, compute, commit, verify, export, total."""
    totals: Totals = Totals()
    predicted_s: float | None = None
    remaining_s: float | None = None
    workers: tuple[str, ...] = ()
    result: MatrixRef | None = None
    verdict: str = ""
    """verify: the finding, in a sentence."""
    error: ErrorInfo | None = None
    wrong_results: dict[str, int] = {}
    """By worker, how many of its results did not pass their check; they were computed again."""
    v: Version = VERSION

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED


class WorkerView(msgspec.Struct, frozen=True, gc=False):
    """A worker as the coordinator sees it."""

    name: str
    incarnation: str
    version: str
    cores: int
    memory_bytes: int
    flops_per_s: float
    bytes_per_s: float
    heard_at: float
    held: int
    jobs: tuple[str, ...] = ()
    """What it holds, for people: ``<operation> <stage>/<index>``."""


class Control(msgspec.Struct, frozen=True):
    """The leader's beacon: that it lives, and what workers must know before each job."""

    epoch: int
    at: float
    fleet: str
    leader: str
    version: str
    cancelled: tuple[OperationId, ...] = ()
    """Operations whose jobs are to be dropped on receipt."""
    n_open: int = 0
    """Operations that have not ended; an embedded deployment may stop when it is 0."""
    workers: tuple[WorkerView, ...] = ()
    remaining_worker_s: float = 0.0
    """Predicted time that one worker would take for all that is left of open operations; what autoscaling goes by."""
    departed: dict[str, str] = {}
    """Workers that are not to be counted on, and why: their machines are taken away, or their results were wrong. They take no
    more jobs, and the keeper replaces their nodes at once."""
    v: Version = VERSION


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that came to nothing: it was delivered too often, or nobody could read it."""

    at: float
    queue: str
    """The dead-letter queue it was found in."""
    reason: str
    body: str
    """The message, or its first 200 kB."""
    operation: str = ""
    """Whose job it was; empty where that cannot be told."""
    v: Version = VERSION


def to_json(value: msgspec.Struct) -> bytes:
    """Indented, so that people can read it where it lies."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def from_json(data: bytes, kind: type[T], where: str) -> T:
    """Raises BadInput, naming ``where``, for anything that is not that kind of object."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError) as error:
        raise BadInput(f"{where} is not a {kind.__name__} of tilefleet: {error}") from error
