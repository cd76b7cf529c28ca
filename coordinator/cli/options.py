"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from coordinator.cli.completing import formats, operation_ids

PLACE = "a local path or s3://bucket/key: .npy, .csv (no header), .csv.gz or .zarr"


class Progress(StrEnum):
    """How much is told while an operation runs."""

    FULL = "full"
    SUMMARY = "summary"
    NONE = "none"


class Comparison(StrEnum):
    """What an operation's time can be compared with."""

    NUMPY = "numpy"


MatrixA = Annotated[str, typer.Argument(metavar="A", help=f"Left matrix: {PLACE}.", autocompletion=formats)]
MatrixB = Annotated[str, typer.Argument(metavar="B", help="Right matrix, as A.", autocompletion=formats)]
OneMatrix = Annotated[str, typer.Argument(metavar="A", help=f"The matrix: {PLACE}.", autocompletion=formats)]
Place = Annotated[str, typer.Argument(metavar="OUT", help=f"Where the result shall be: {PLACE}.", autocompletion=formats)]
OperationId = Annotated[
    str,
    typer.Argument(
        metavar="OP", help='An operation id, an unambiguous beginning of one, or "last".', autocompletion=operation_ids
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out", "-o", metavar="OUT", help=f"Where the result shall be: {PLACE}. Without it the fleet keeps the result.",
        autocompletion=formats,
    ),
]  # fmt: skip
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists. Never applies to an input.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Print the operation id and return at once.")]
CsvDtypeOption = Annotated[
    str | None,
    typer.Option("--csv-dtype", "--dtype", metavar="DTYPE", help="Element type of CSV inputs; saves the pass that finds it out."),
]
ProgressOption = Annotated[
    Progress,
    typer.Option("--progress", metavar="full|summary|none", help="Everything, one line, or nothing, while it runs."),
]
TimeOption = Annotated[
    str,
    typer.Option(
        "--time", metavar="PHASES",
        help="Which times to print: names from submit, ingest, plan, queue_wait, compute, commit, verify, export, total, "
        "separated by commas; or all, or none.",
    ),
]  # fmt: skip
CompareOption = Annotated[
    Comparison | None,
    typer.Option("--compare", metavar="numpy", help="Afterwards, time the same with NumPy on this machine, beside it."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors (and the id, with --no-wait).")]
