"""What travels over SQS: small, versioned, validated on receipt. No message carries matrix data.

One union of messages per queue. A field that is only added is ignored by older readers; ``VERSION`` grows when a reader
must know, and a message of a newer version than the reader's is refused (golden files in tests/unit/golden/).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tilefleet.dtypes import DtypeName
from tilefleet.errors import BadInput, ErrorInfo
from tilefleet.facts import Facts, finite
from tilefleet.ids import FleetName, Incarnation, OperationId, StageName, WorkerName
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.wire import Count, Wire, decoded

VERSION = 1
MAX_MESSAGE_BYTES = 1024 * 1024  # SQS limit, also for a whole batch of ten
Version = Annotated[int, msgspec.Meta(ge=1, le=VERSION)]


# ---- client → coordinator (operations queue) ------------------------------------------------------------------------


class Submit(Wire, tag="submit", frozen=True):
    """There is a new record in the store: take it up. Losing this message only delays the operation."""

    fleet: FleetName
    operation: OperationId
    v: Version = VERSION


class Cancel(Wire, tag="cancel", frozen=True):
    """The operation's cancel object was written: look at it now."""

    fleet: FleetName
    operation: OperationId
    v: Version = VERSION


ClientMessage = Submit | Cancel


# ---- coordinator → worker (jobs queue) ------------------------------------------------------------------------------


class Epilogue(Wire, frozen=True):
    """What follows a product: ``alpha * P + beta * C``, promoted step by step as NumPy does. None leaves a step out."""

    alpha: str | None = None
    beta: str | None = None
    c: Operand | None = None


class Gemm(Wire, tag="gemm", frozen=True):
    """One block of op(A) @ op(B), over columns k0 to k1 of op(A), streamed in panels ``panel_k`` deep."""

    a: Operand
    b: Operand
    out: MatrixRef
    rect: Rect
    k0: int
    k1: int
    panel_k: int
    product_dtype: DtypeName
    epilogue: Epilogue | None = None

    @property
    def outputs(self) -> tuple[Rect, ...]:
        """What of the result this job writes."""
        return (self.rect,)


class Syrk(Gemm, tag="syrk", frozen=True):
    """One block of op(A) @ op(A)ᵀ, which is symmetric, on or above its diagonal; the block across is its transpose."""

    @property
    def outputs(self) -> tuple[Rect, ...]:
        return (self.rect,) if self.rect == self.rect.transposed else (self.rect, self.rect.transposed)


class Reduce(Wire, tag="reduce", frozen=True):
    """Sum of ``n_parts`` partial products at ``{parts.url}/{p}``, then the epilogue: one block of the result."""

    parts: MatrixRef
    n_parts: int
    out: MatrixRef
    rect: Rect
    epilogue: Epilogue | None = None


class Term(Wire, frozen=True):
    """``factor * op(X)``; no factor means op(X) itself."""

    operand: Operand
    factor: str | None = None


class Elementwise(Wire, tag="elementwise", frozen=True):
    """One block of term, term + term or term - term: add, subtract, scale, transpose, and copying between layouts.

    Elements are computed by NumPy's promotion and then cast to the dtype of ``out``, as ``astype`` does.
    """

    terms: tuple[Term, ...]
    out: MatrixRef
    rect: Rect
    is_subtraction: bool = False


class Random(Wire, tag="random", frozen=True):
    """One block of random elements, the same for a seed whatever the tiles: each 256 × 256 cell has its own stream."""

    out: MatrixRef
    rect: Rect
    low: str
    high: str
    seed: int


class Gunzip(Wire, tag="gunzip", frozen=True):
    """A gzip-compressed CSV to a plain one at ``out.url``."""

    source: MatrixRef
    out: MatrixRef


class ScanCsv(Wire, tag="scan_csv", frozen=True):
    """Rows, columns and the widest element type of the lines that begin in bytes [byte0, byte1); facts: ``CsvFacts``."""

    source: MatrixRef
    byte0: int
    byte1: int
    piece_bytes: int
    facts_url: str
    dtype: DtypeName | None = None


class ParseCsv(Wire, tag="parse_csv", frozen=True):
    """Rows of ``rect`` (all columns) of a CSV: from ``byte0``, skip ``skip_rows`` lines, parse ``rect.rows`` of them."""

    source: MatrixRef
    out: MatrixRef
    rect: Rect
    byte0: int
    byte1: int
    skip_rows: int


class Export(Wire, tag="export", frozen=True):
    """Rows of ``rect`` (all columns) encoded as npy elements or CSV lines into one part object at ``part_url``."""

    source: MatrixRef
    rect: Rect
    format: Literal["npy", "csv"]
    part_url: str


class Publish(Wire, tag="publish", frozen=True):
    """Make the result appear under its name, whole, last of all: write ``zarr.json`` or join ``n_parts`` parts."""

    out: MatrixRef
    operation: OperationId
    parts_url: str | None = None
    n_parts: int = 0
    staged_url: str | None = None
    is_overwrite: bool = False


class Project(Wire, tag="project", frozen=True):
    """Rows of ``rect`` of op(B) times the check vectors of ``seed``: facts for ``Check``, at ``facts_url``."""

    b: Operand
    rect: Rect
    seed: int
    n_vectors: int
    product_dtype: DtypeName
    facts_url: str


class Check(Wire, tag="check", frozen=True):
    """Rows of ``rect`` of a result against its operands; facts: ``CheckFacts``."""

    result: MatrixRef
    rect: Rect
    facts_url: str
    seed: int = 0
    n_vectors: int = 0
    product: Gemm | None = None
    """For products: compare C·x with op(A)·(op(B)·x); projections lie at ``{projections_url}/{index}``."""
    projections_url: str | None = None
    projection_rows: int = 0
    n_projections: int = 0
    elementwise: Elementwise | None = None
    """For sums, copies, …: compute the rows again and compare every element."""
    random: Random | None = None


Work = Gemm | Syrk | Reduce | Elementwise | Random | Gunzip | ScanCsv | ParseCsv | Export | Publish | Project | Check


class Job(Wire, frozen=True):
    """One unit of work. (operation, stage, index) names it for ever; ``attempt`` counts tries at it."""

    fleet: FleetName
    operation: OperationId
    stage: StageName
    index: Count
    attempt: Count
    epoch: Count
    peak_bytes: Count
    work: Work
    halvings: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    """Of the sides of what is held at a time, after attempts that had too little memory, or may have had."""
    v: Version = VERSION

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.operation, self.stage, self.index)


# ---- worker → coordinator (completions queue) -----------------------------------------------------------------------


class JobTimes(Wire, frozen=True):
    """Where one attempt's time went. Phases overlap, so they may add up to more than ``total_s``."""

    total_s: float = 0.0
    waited_s: float = 0.0
    """From receipt to start: for memory, or for the compute slot."""
    fetched_s: float = 0.0
    computed_s: float = 0.0
    checked_s: float = 0.0
    committed_s: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    flops: int = 0


class WorkerHello(Wire, tag="hello", frozen=True):
    """A worker is there. A new ``incarnation`` under the same name means that the old process is gone."""

    fleet: FleetName
    worker: WorkerName
    incarnation: Incarnation
    version: str
    cores: int
    memory_bytes: int
    flops_per_s: float
    """float64 multiply-adds counted as two, on its cores: measured at its start and while idle, then by its products."""
    bytes_per_s: float
    slots: int
    v: Version = VERSION


class WorkerHeartbeat(Wire, tag="heartbeat", frozen=True):
    """A worker lives, and these attempts are the ones it holds: (operation, stage, index, attempt)."""

    fleet: FleetName
    worker: WorkerName
    incarnation: Incarnation
    held: tuple[tuple[OperationId, StageName, Count, Count], ...]
    v: Version = VERSION


class WorkerBye(Wire, tag="bye", frozen=True):
    """A worker has drained and leaves; it holds nothing."""

    fleet: FleetName
    worker: WorkerName
    incarnation: Incarnation
    reason: str = ""
    """Why, when nobody told it to: its spot instance is taken away."""
    v: Version = VERSION


class JobDone(Wire, tag="done", frozen=True):
    """The job's output is committed in the store."""

    fleet: FleetName
    worker: WorkerName
    incarnation: Incarnation
    operation: OperationId
    stage: StageName
    index: Count
    attempt: Count
    times: JobTimes
    check_worst: float | None = None
    """Largest in-job residual as a fraction of its bound; None where nothing was checked."""
    facts: Facts | None = None
    v: Version = VERSION

    def __post_init__(self) -> None:
        if self.check_worst is not None:
            msgspec.structs.force_setattr(self, "check_worst", finite(self.check_worst))


class JobFailed(Wire, tag="failed", frozen=True):
    """The attempt ended without a result. ``is_retryable`` says whether another attempt may help."""

    fleet: FleetName
    worker: WorkerName
    incarnation: Incarnation
    operation: OperationId
    stage: StageName
    index: Count
    attempt: Count
    error: ErrorInfo
    is_retryable: bool
    v: Version = VERSION


WorkerMessage = WorkerHello | WorkerHeartbeat | WorkerBye | JobDone | JobFailed

_ENCODER = msgspec.json.Encoder()
_CLIENT: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_JOB: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
_WORKER: msgspec.json.Decoder[WorkerMessage] = msgspec.json.Decoder(WorkerMessage)


def encode(message: Wire) -> str:
    """The message as JSON text. Raises BadInput when it is larger than SQS takes."""
    body = _ENCODER.encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise BadInput(f"a message of {len(body)} bytes is over the {MAX_MESSAGE_BYTES} that SQS takes; shorten its paths")
    return body.decode()


def decode_client(body: str) -> ClientMessage:
    """Raises BadInput for anything that is not a valid message of ours."""
    return decoded(_CLIENT, body)


def decode_job(body: str) -> Job:
    """Raises BadInput for anything that is not a valid message of ours."""
    return decoded(_JOB, body)


def decode_worker(body: str) -> WorkerMessage:
    """Raises BadInput for anything that is not a valid message of ours."""
    return decoded(_WORKER, body)
