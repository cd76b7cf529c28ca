"""The commands that compute: multiply, add, subtract, transpose, scale."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.door import FACTOR, command
from coordinator.cli.options import (
    CompareOption,
    CsvDtypeOption,
    MatrixA,
    MatrixB,
    NoWaitOption,
    OneMatrix,
    OutOption,
    OverwriteOption,
    Progress,
    ProgressOption,
    QuietOption,
    TimeOption,
)
from coordinator.cli.session import Session
from coordinator.cli.waiting import Manner, carry_out

FAMILY = "Compute"

TransposeA = Annotated[bool, typer.Option("--transpose-a", help="Use the transpose of A; it costs no extra pass over the data.")]
TransposeB = Annotated[bool, typer.Option("--transpose-b", help="Use the transpose of B.")]
TransposeC = Annotated[bool, typer.Option("--transpose-c", help="Use the transpose of the matrix that is added.")]
Alpha = Annotated[str | None, typer.Option("--alpha", metavar="NUMBER", help="Factor of the product: 2, 0.5, 1e-3, 1+2j.")]
Beta = Annotated[str | None, typer.Option("--beta", metavar="NUMBER", help="Factor of the matrix that is added.")]
AddTo = Annotated[
    str | None, typer.Option("--add-to", "--c", metavar="C", help="Matrix to add the product to; it is not changed.")
]
Factor = Annotated[str, typer.Argument(metavar=FACTOR, help="The factor: 2, -0.5, 1e-3, -1+2j.")]


@command(
    "multiply",
    under=FAMILY,
    aliases=("matmul",),
    examples=(
        ("tilefleet multiply a.npy b.npy -o c.npy", "the product of two files, as a file"),
        ("tilefleet multiply a.csv b.zarr", "the fleet keeps the result; 'tilefleet get last c.npy' fetches it"),
        ("tilefleet multiply a.npy a.npy --transpose-a -o gram.npy", "AᵀA, without a transposed copy"),
        ("tilefleet multiply a.npy b.npy --alpha 2 --beta 0.5 --add-to c.npy -o d.npy", "2·A·B + 0.5·C"),
        ("tilefleet multiply s3://bucket/a.zarr s3://bucket/b.zarr -o s3://bucket/c.zarr --no-wait", "print the id and return"),
        ("tilefleet multiply a.npy b.npy --time compute,total --compare numpy", "two times, with NumPy's beside them"),
    ),
)
def multiply(
    session: Session,
    a: MatrixA,
    b: MatrixB,
    out: OutOption = None,
    transpose_a: TransposeA = False,
    transpose_b: TransposeB = False,
    alpha: Alpha = None,
    beta: Beta = None,
    add_to: AddTo = None,
    transpose_c: TransposeC = False,
    overwrite: OverwriteOption = False,
    no_wait: NoWaitOption = False,
    csv_dtype: CsvDtypeOption = None,
    progress: ProgressOption = Progress.SUMMARY,
    time: TimeOption = "all",
    compare: CompareOption = None,
    quiet: QuietOption = False,
) -> None:
    """The matrix product: alpha · op(A) · op(B) + beta · op(C), where op is the transpose or nothing.

    Element types follow NumPy's rules for alpha * (A @ B) + beta * C, step by step; integers are exact, wrap-around included.
    "matmul" is the same command.
    """
    from tilefleet.submission import Request

    if transpose_c and add_to is None:
        raise typer.BadParameter("--transpose-c goes with --add-to")
    manner = Manner.of(no_wait, progress, time, compare, quiet)
    request = Request(
        kind="multiply", a=a, b=b, c=add_to, transpose_a=transpose_a, transpose_b=transpose_b, transpose_c=transpose_c,
        alpha=alpha, beta=beta, out=out, overwrite=overwrite, csv_dtype=csv_dtype, command=session.command_line,
    )  # fmt: skip
    carry_out(session, request, manner)


@command(
    "add",
    under=FAMILY,
    examples=(
        ("tilefleet add a.csv b.csv -o sum.csv", "element by element"),
        ("tilefleet add a.npy b.npy --transpose-b -o s.zarr", "A + Bᵀ"),
    ),
)
def add(
    session: Session,
    a: MatrixA,
    b: MatrixB,
    out: OutOption = None,
    transpose_a: TransposeA = False,
    transpose_b: TransposeB = False,
    overwrite: OverwriteOption = False,
    no_wait: NoWaitOption = False,
    csv_dtype: CsvDtypeOption = None,
    progress: ProgressOption = Progress.SUMMARY,
    time: TimeOption = "all",
    compare: CompareOption = None,
    quiet: QuietOption = False,
) -> None:
    """The sum: op(A) + op(B). The shapes must be equal; there is no broadcasting."""
    from tilefleet.submission import Request

    manner = Manner.of(no_wait, progress, time, compare, quiet)
    request = Request(
        kind="add", a=a, b=b, transpose_a=transpose_a, transpose_b=transpose_b, out=out, overwrite=overwrite,
        csv_dtype=csv_dtype, command=session.command_line,
    )  # fmt: skip
    carry_out(session, request, manner)


@command(
    "subtract",
    under=FAMILY,
    examples=(
        ("tilefleet subtract a.npy b.npy -o difference.npy", "element by element"),
        ("tilefleet subtract a.npy a.npy --transpose-b -o skew.npy", "A − Aᵀ"),
    ),
)
def subtract(
    session: Session,
    a: MatrixA,
    b: MatrixB,
    out: OutOption = None,
    transpose_a: TransposeA = False,
    transpose_b: TransposeB = False,
    overwrite: OverwriteOption = False,
    no_wait: NoWaitOption = False,
    csv_dtype: CsvDtypeOption = None,
    progress: ProgressOption = Progress.SUMMARY,
    time: TimeOption = "all",
    compare: CompareOption = None,
    quiet: QuietOption = False,
) -> None:
    """The difference: op(A) − op(B). The shapes must be equal; there is no broadcasting."""
    from tilefleet.submission import Request

    manner = Manner.of(no_wait, progress, time, compare, quiet)
    request = Request(
        kind="subtract", a=a, b=b, transpose_a=transpose_a, transpose_b=transpose_b, out=out, overwrite=overwrite,
        csv_dtype=csv_dtype, command=session.command_line,
    )  # fmt: skip
    carry_out(session, request, manner)


@command("transpose", under=FAMILY, examples=(("tilefleet transpose a.npy -o at.npy", "rows become columns"),))
def transpose(
    session: Session,
    a: OneMatrix,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    no_wait: NoWaitOption = False,
    csv_dtype: CsvDtypeOption = None,
    progress: ProgressOption = Progress.SUMMARY,
    time: TimeOption = "all",
    compare: CompareOption = None,
    quiet: QuietOption = False,
) -> None:
    """The transpose of a matrix, as a matrix of its own. (A product needs none: use --transpose-a and --transpose-b there.)"""
    from tilefleet.submission import Request

    manner = Manner.of(no_wait, progress, time, compare, quiet)
    request = Request(kind="transpose", a=a, out=out, overwrite=overwrite, csv_dtype=csv_dtype, command=session.command_line)
    carry_out(session, request, manner)


@command(
    "scale",
    under=FAMILY,
    examples=(
        ("tilefleet scale a.npy 0.5 -o half.npy", "every element times 0.5"),
        ("tilefleet scale a.npy -1 -o minus.npy", "every element with the other sign"),
    ),
)
def scale(
    session: Session,
    a: OneMatrix,
    alpha: Factor,
    out: OutOption = None,
    transpose_a: TransposeA = False,
    overwrite: OverwriteOption = False,
    no_wait: NoWaitOption = False,
    csv_dtype: CsvDtypeOption = None,
    progress: ProgressOption = Progress.SUMMARY,
    time: TimeOption = "all",
    compare: CompareOption = None,
    quiet: QuietOption = False,
) -> None:
    """A matrix times a number: alpha · op(A). The element type is NumPy's for a Python number and the array."""
    from tilefleet.submission import Request

    manner = Manner.of(no_wait, progress, time, compare, quiet)
    request = Request(
        kind="scale", a=a, alpha=alpha, transpose_a=transpose_a, out=out, overwrite=overwrite, csv_dtype=csv_dtype,
        command=session.command_line,
    )  # fmt: skip
    carry_out(session, request, manner)
