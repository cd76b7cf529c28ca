"""The commands about matrices themselves: random, convert, info, head."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli import documents, render
from coordinator.cli.completing import formats
from coordinator.cli.door import command
from coordinator.cli.options import (
    PLACE,
    NoWaitOption,
    OneMatrix,
    OverwriteOption,
    Place,
    Progress,
    ProgressOption,
    QuietOption,
    TimeOption,
)
from coordinator.cli.session import Session, run, terminal_columns
from coordinator.cli.waiting import Manner, carry_out
from tilefleet.errors import BadInput
from tilefleet.matrix import place_text
from tilefleet.quantities import format_bytes

if TYPE_CHECKING:
    import numpy as np

    from tilefleet.client import Client
    from tilefleet.lazy import LazyMatrix
    from tilefleet.matrix import MatrixRef
    from tilefleet.records import RandomSpec

FAMILY = "Matrices"

ShapeArgument = Annotated[str, typer.Argument(metavar="SHAPE", help="Rows and columns: 2000x3000.")]
AnyMatrix = Annotated[
    str,
    typer.Argument(
        metavar="MATRIX",
        help=f'{PLACE[0].upper()}{PLACE[1:]}; or an operation id (or "last") for its result.',
        autocompletion=formats,
    ),
]
Dtype = Annotated[str, typer.Option("--dtype", metavar="DTYPE", help="Element type.")]
CastTo = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="Element type of OUT, cast as NumPy's astype does [default: that of A]. A CSV is read as this type.",
    ),
]
ReadAs = Annotated[
    str | None, typer.Option("--csv-dtype", metavar="DTYPE", help="Element type to read a CSV as, where that is not --dtype.")
]
Low = Annotated[str | None, typer.Option("--low", metavar="NUMBER", help="Least element [default: 0].")]
High = Annotated[
    str | None,
    typer.Option("--high", metavar="NUMBER", help="Elements are below this [default: 10 for integers, 2 for bool, else 1]."),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, help="The same seed gives the same matrix; without it one is drawn and printed."),
]
Rows = Annotated[int, typer.Option("--rows", metavar="N", min=1, help="How many rows to show.")]
Cols = Annotated[int, typer.Option("--cols", metavar="N", min=1, help="How many columns to show.")]


@command(
    "random",
    under=FAMILY,
    examples=(
        ("tilefleet random 2000x2000 a.csv", "integers 0–9, as text"),
        ("tilefleet random 12000x12000 a.npy --dtype float64 --low -1 --high 1 --seed 7", "reals in [−1, 1), repeatable"),
    ),
)
def random(
    session: Session,
    shape: ShapeArgument,
    out: Place,
    dtype: Dtype = "int64",
    low: Low = None,
    high: High = None,
    seed: Seed = None,
    overwrite: OverwriteOption = False,
    no_wait: NoWaitOption = False,
    progress: ProgressOption = Progress.SUMMARY,
    time: TimeOption = "all",
    quiet: QuietOption = False,
) -> None:
    """A matrix of random elements, uniform in [low, high), made by the workers.

    It depends on shape, element type, bounds and seed alone, not on the fleet or the tiles.
    """
    from tilefleet.submission import Request, check_random

    manner = Manner.of(no_wait, progress, time, None, quiet)
    spec = random_spec(shape, dtype, low, high, seed)
    check_random(spec)
    if seed is None and not quiet:
        session.remark(f"seed {spec.seed} (repeat with --seed {spec.seed})")
    carry_out(session, Request(kind="random", random=spec, out=out, overwrite=overwrite, command=session.command_line), manner)


@command(
    "convert",
    under=FAMILY,
    examples=(
        ("tilefleet convert a.csv a.npy", "text to NumPy's format"),
        ("tilefleet convert a.npy s3://bucket/a.zarr", "a file to tiles in an object store"),
        ("tilefleet convert a.zarr a.csv.gz", "tiles to compressed text"),
        ("tilefleet convert a.npy small.npy --dtype float32", "the same numbers in another element type"),
    ),
)
def convert(
    session: Session,
    a: OneMatrix,
    out: Place,
    overwrite: OverwriteOption = False,
    no_wait: NoWaitOption = False,
    dtype: CastTo = None,
    csv_dtype: ReadAs = None,
    progress: ProgressOption = Progress.SUMMARY,
    time: TimeOption = "all",
    quiet: QuietOption = False,
) -> None:
    """A copy of a matrix in another format or element type; the workers make it, in pieces."""
    from tilefleet.submission import Request

    manner = Manner.of(no_wait, progress, time, None, quiet)
    request = Request(
        kind="convert", a=a, out=out, overwrite=overwrite, dtype=dtype, csv_dtype=csv_dtype, command=session.command_line
    )  # fmt: skip
    carry_out(session, request, manner)


@command(
    "info",
    under=FAMILY,
    examples=(
        ("tilefleet info a.npy", "shape, element type, layout"),
        ("tilefleet info last --json", "the newest result, for a program"),
    ),
)
def info(session: Session, matrix: AnyMatrix) -> None:
    """What a matrix is: shape, element type, format, tiles, size. Starts nothing; a CSV is read through once for its shape."""
    ref = run(_info(session, matrix))
    session.show(info_text(ref), documents.matrix(ref))


@command(
    "head",
    under=FAMILY,
    examples=(
        ("tilefleet head a.csv", "its upper left corner"),
        ("tilefleet head last --rows 3 --cols 10", "of the newest result"),
    ),
)
def head(session: Session, matrix: AnyMatrix, rows: Rows = 6, cols: Cols = 6) -> None:
    """The upper left corner of a matrix, as NumPy prints it. Reads no more than that; starts nothing."""
    corner, shape = run(_head(session, matrix, rows, cols))
    session.show(
        corner_text(corner, shape, terminal_columns()),
        {"rows": corner_rows(corner), "dtype": corner.dtype.name, "shape": list(shape) if shape else None},
    )


def parse_shape(text: str) -> tuple[int, int]:
    """``2000x3000``, ``2000×3000`` or ``2000,3000`` → (2000, 3000). Raises BadInput."""
    match = re.fullmatch(r"\s*(\d{1,15})\s*[x×X*,]\s*(\d{1,15})\s*", text)
    if match is None:
        raise BadInput(f"{text!r} is not a shape; write rows and columns as 2000x3000")
    return int(match[1]), int(match[2])


def info_text(ref: MatrixRef) -> str:
    """``tilefleet info`` for people."""
    rows = [("place", place_text(ref.url)), ("format", ref.format + (", gzip" if ref.is_gzip else ""))]
    rows += [("shape", render.shape_text(ref.shape)), ("dtype", ref.dtype or "not known")]
    if ref.tile and ref.shape:
        grid = ref.grid
        rows.append(("tiles", f"{render.shape_text(ref.tile)}, {grid.n_rows} × {grid.n_cols} of them, {_LAYOUTS[ref.layout]}"))
        rows.append(
            ("missing tiles", "an error: the array is one of tilefleet's" if ref.is_ours else f"read as {ref.fill_value}")
        )
    if ref.is_fortran_order:
        rows.append(("order", "Fortran: column by column"))
    if ref.is_big_endian:
        rows.append(("bytes", "big-endian"))
    if ref.size_bytes:
        rows.append(("file", f"{format_bytes(ref.size_bytes)} ({ref.size_bytes} B)"))
    if ref.shape and ref.dtype:
        rows.append(("elements", format_bytes(_elements_bytes(ref))))
    return render.table(rows)


def corner_text(corner: np.ndarray, shape: tuple[int, int] | None, columns: int) -> str:
    """A corner as NumPy prints arrays, and a line that says of what."""
    import numpy as np

    lines = np.array2string(corner, max_line_width=max(columns, 40), threshold=corner.size + 1)
    if shape == corner.shape:
        return f"{lines}\n{render.shape_text(shape)} {corner.dtype.name}"
    of = f" of {render.shape_text(shape)}" if shape else ""
    return f"{lines}\ncorner {render.shape_text((corner.shape[0], corner.shape[1]))}{of}, {corner.dtype.name}"


def corner_rows(corner: np.ndarray) -> list[list[Any]]:
    """JSON has neither NaN, infinity nor complex numbers: those are strings."""
    rows: list[list[Any]] = corner.tolist()
    return [[_json_number(element) for element in row] for row in rows]


_LAYOUTS = {"raw": "as they are", "raw+crc32c": "with checksums", "codec": "compressed or sharded"}


def _json_number(element: Any) -> Any:
    if isinstance(element, complex):
        return str(element).strip("()")
    if isinstance(element, float) and not (abs(element) < float("inf")):
        return str(element)
    return element


def _elements_bytes(ref: MatrixRef) -> int:
    import numpy as np

    assert ref.shape is not None  # noqa: S101  the caller has looked
    return ref.shape[0] * ref.shape[1] * np.dtype(ref.dtype).itemsize


def random_spec(shape: str, dtype: str, low: str | None, high: str | None, seed: int | None) -> RandomSpec:
    """What ``random`` asks for, with the defaults that suit the element type. Raises BadInput."""
    import secrets

    from tilefleet.dtypes import parse_dtype
    from tilefleet.records import RandomSpec

    parsed = parse_dtype(dtype, "--dtype")
    kind = parsed.kind
    default_high = "10" if kind in "iu" else "2" if kind == "b" else "1"
    return RandomSpec(
        shape=parse_shape(shape),
        dtype=parsed.name,
        low=low if low is not None else "0",
        high=high if high is not None else default_high,
        seed=secrets.randbits(32) if seed is None else seed,
    )


async def _info(session: Session, location: str) -> MatrixRef:
    async with session.client() as client:
        result = await _result_of(client, location)
        return result.ref if result is not None else await client.inspect(location, scan=True)


async def _head(session: Session, location: str, rows: int, cols: int) -> tuple[np.ndarray, tuple[int, int] | None]:
    async with session.client() as client:
        source = await _result_of(client, location)
        corner = await client.head(location if source is None else source, rows, cols)
        shape = source.shape if source is not None else (await client.inspect(location)).shape
        return corner, shape


def means_operation(location: str) -> bool:
    """Whether "last" or (the beginning of) an id is meant; a file of that name comes first."""
    from pathlib import Path

    from tilefleet.ids import is_prefix

    return (location == "last" or is_prefix(location)) and not Path(location).exists()


async def _result_of(client: Client, location: str) -> LazyMatrix | None:
    if not means_operation(location):
        return None
    return await (await client.find(location)).result()
