"""``tilefleet plan``: what an operation would run, without running it. Looks at the operands, writes and starts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.compute import AddTo, Alpha, Beta, TransposeA, TransposeB
from coordinator.cli.door import command
from coordinator.cli.options import OutOption
from coordinator.cli.session import Session, run
from tilefleet.errors import BadInput

if TYPE_CHECKING:
    from coordinator.cli.explaining import Explanation
    from coordinator.core.cost import FleetFacts
    from coordinator.core.plans import Known, Plan, Settings
    from tilefleet.client import Client
    from tilefleet.config import Config
    from tilefleet.matrix import MatrixRef
    from tilefleet.records import OperationRecord, RandomSpec, WorkerView
    from tilefleet.submission import Request

FORMS = {
    "multiply": ("A", "B"), "matmul": ("A", "B"), "add": ("A", "B"), "subtract": ("A", "B"), "transpose": ("A",),
    "scale": ("A", "ALPHA"), "convert": ("A", "OUT"), "random": ("SHAPE",),
}  # fmt: skip
NO_ID = "0" * 12

Kind = Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(FORMS)}.")]
Arguments = Annotated[list[str], typer.Argument(metavar="ARGUMENT...", help="As that command takes them: A B, A ALPHA, …")]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--csv-dtype",
        "--dtype",
        metavar="DTYPE",
        help="Element type of CSV inputs, of a random matrix, or of what convert makes.",
    ),
]


@command(
    "plan",
    under="Compute",
    examples=(
        ("tilefleet plan multiply a.npy b.npy", "blocks, jobs, bytes moved, peak memory, predicted time, and why"),
        ("tilefleet plan multiply a.npy b.npy --transpose-b -o c.csv --json", "with the export, for a program"),
        ("tilefleet plan random 20000x20000 --dtype float32", "before there is any matrix"),
    ),
)
def plan(
    session: Session,
    kind: Kind,
    arguments: Arguments,
    out: OutOption = None,
    transpose_a: TransposeA = False,
    transpose_b: TransposeB = False,
    alpha: Alpha = None,
    beta: Beta = None,
    add_to: AddTo = None,
    dtype: Dtype = None,
) -> None:
    """What an operation would run: blocks, jobs, bytes moved, peak memory, predicted time, and why. Runs and starts nothing.

    Counts on the workers that were heard last; where there were none yet, on what the configuration says of them.
    """
    from coordinator.cli import explaining
    from tilefleet.submission import Request

    given = _arguments(kind, arguments)
    request = Request(
        kind="multiply" if kind == "matmul" else kind,  # type: ignore[arg-type]  # one of FORMS
        a=given.get("A"), b=given.get("B"), c=add_to, alpha=given.get("ALPHA", alpha), beta=beta, transpose_a=transpose_a,
        transpose_b=transpose_b, random=_random(given.get("SHAPE"), dtype or "int64"), out=given.get("OUT", out), csv_dtype=dtype,
        dtype=dtype if kind == "convert" else None,
    )  # fmt: skip
    found = run(_explain(session, request))
    session.show(explaining.as_text(found), explaining.document(found))


def _arguments(kind: str, arguments: list[str]) -> dict[str, str]:
    if kind not in FORMS:
        raise typer.BadParameter(f"plan knows no {kind!r}; choose from {', '.join(FORMS)}")
    names = FORMS[kind]
    if len(arguments) != len(names):
        raise typer.BadParameter(
            f"plan {kind} takes {' '.join(names)}; got {len(arguments)} argument{'s' if len(arguments) != 1 else ''}"
        )
    return dict(zip(names, arguments, strict=True))


def _random(shape: str | None, dtype: str) -> RandomSpec | None:
    from coordinator.cli.data import random_spec

    return None if shape is None else random_spec(shape, dtype, None, None, 0)


async def _explain(session: Session, request: Request) -> Explanation:
    from coordinator.cli.explaining import Explanation
    from coordinator.core.plans import Settings
    from tilefleet.session import store_url

    async with session.client() as client:
        record, refs = await _looked_at(client, request)
        control = await client.control()
    fleet, source = _facts(session.config(), control.workers if control else ())
    settings = Settings(store_url(session.config()), session.config().coordinator.job_target.s)
    return Explanation(record, _plans(record, refs, fleet, settings), fleet, source, settings.job_target_s)


async def _looked_at(client: Client, request: Request) -> tuple[OperationRecord, list[MatrixRef]]:
    """The record as it would be written, and its CSV operands with the shapes that a scan would find."""
    from tilefleet.destination import locate_output
    from tilefleet.matrix import Operand
    from tilefleet.submission import record_of

    operands, scanned = {}, []
    for name, (source, is_transposed) in request.sources.items():
        ref = await client.inspect(source, scan=True)
        scanned += [ref] if ref.format == "csv" else []
        operands[name] = Operand(ref, is_transposed)
    return record_of(request, operands, locate_output(request.out), operation=NO_ID), scanned


def _plans(record: OperationRecord, scanned: list[MatrixRef], fleet: FleetFacts, settings: Settings) -> list[Plan]:
    from coordinator.core.plans import next_part, plan

    known = _known(scanned)
    made: list[Plan] = []
    while (part := next_part(record, frozenset(one.part for one in made))) is not None:
        made.append(plan(part, record, known, fleet, settings))
    return made


def _known(scanned: list[MatrixRef]) -> Known:
    """What the scans would find, with rows spread evenly over the file."""
    import msgspec

    from coordinator.core.plans import PIECE_BYTES, Known
    from tilefleet.facts import CsvFacts
    from tilefleet.matrix import ceil_div

    scans, plain = {}, {}
    for ref in scanned:
        if ref.shape is None or ref.dtype is None:
            raise BadInput(f"{ref.url} was not scanned")
        pieces = max(1, ceil_div(ref.size_bytes, PIECE_BYTES))
        share, rest = divmod(ref.shape[0], pieces)
        scans[ref.url] = CsvFacts(tuple(share + (index < rest) for index in range(pieces)), ref.shape[1], ref.dtype)
        plain[ref.url] = msgspec.structs.replace(ref, is_gzip=False)
    return Known(plain, scans)


def _facts(config: Config, workers: Sequence[WorkerView]) -> tuple[FleetFacts, str]:
    from coordinator.core.cost import FleetFacts

    views = [worker for worker in workers if worker.flops_per_s > 0]
    if not views:
        default = FleetFacts(n_workers=config.local.workers) if config.fleet.kind == "local" else FleetFacts()
        return default, "assumed: no worker was heard yet"
    return FleetFacts(
        n_workers=len(views),
        memory_bytes=min(view.memory_bytes for view in views),
        flops_per_s=sum(view.flops_per_s for view in views) / len(views),
        bytes_per_s=max(1e5, sum(view.bytes_per_s for view in views) / len(views)),
    ), "as they measured themselves"
