"""What a user asks for, and whether it can be computed: pure checks that the client makes first and the coordinator repeats.

The rule: no I/O here. A matrix whose shape is not known yet (a CSV before its scan) passes every check that needs the
shape; the coordinator asks ``result_type`` again when the scan is done. There is no broadcasting: sums need equal shapes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from tilefleet.dtypes import Scalar, added_name, dtype_name, parse_dtype, parse_scalar, promoted, scaled_dtype
from tilefleet.errors import BadInput
from tilefleet.ids import ALPHABET, OPERATION_ID_LENGTH
from tilefleet.matrix import MatrixRef, Operand, place_text
from tilefleet.records import Kind, OperationRecord, Output, RandomSpec

Shape = tuple[int, int]
Source = Any
"""A path or URL (str, PathLike), an ndarray or what becomes one, a LazyMatrix, an Operation, a MatrixRef, an Operand."""

_OPERANDS: Mapping[Kind, tuple[str, ...]] = {
    "multiply": ("a", "b"), "add": ("a", "b"), "subtract": ("a", "b"), "scale": ("a",), "transpose": ("a",),
    "random": (), "convert": ("a",), "verify": (),
}  # fmt: skip
_STAGED = re.compile(rf"/staging/[{ALPHABET}]{{{OPERATION_ID_LENGTH}}}/([abc])\Z")
_SUFFIXES: Mapping[str, tuple[str, bool]] = {
    ".zarr": ("zarr", False), ".npy": ("npy", False), ".csv": ("csv", False), ".csv.gz": ("csv", True),
}  # fmt: skip


class Request(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One operation as a user asks for it: ``alpha * op(a) @ op(b) + beta * op(c)``, ``op(a) ± op(b)``, ``alpha * op(a)``, …"""

    kind: Kind
    a: Source | None = None
    b: Source | None = None
    c: Source | None = None
    transpose_a: bool = False
    transpose_b: bool = False
    transpose_c: bool = False
    alpha: Scalar | str | None = None
    beta: Scalar | str | None = None
    random: RandomSpec | None = None
    verifies: str | None = None
    out: str | os.PathLike[str] | None = None
    """A local path or URL ending in .zarr, .npy, .csv or .csv.gz; None: a place of the fleet's own, kept for a while."""
    overwrite: bool = False
    tile: Shape | None = None
    csv_dtype: str | None = None
    """Element type to read CSV operands with; None: the widest their text needs."""
    dtype: str | None = None
    """convert: element type of the result, cast as NumPy's ``astype`` does. A CSV is read as that type, unless ``csv_dtype``."""
    command: str = ""

    @property
    def sources(self) -> dict[str, tuple[Source, bool]]:
        """The operands that were given, by name, each with whether it is to be transposed."""
        given = {
            "a": (self.a, self.transpose_a),
            "b": (self.b, self.transpose_b),
            "c": (self.c, self.transpose_c),
        }
        return {name: source for name, source in given.items() if source[0] is not None}


class ResultType(NamedTuple):
    """Shape and name of the dtype of a result; None where they are not known before a CSV is scanned."""

    shape: Shape | None
    dtype: str | None


def scalar_text(value: Scalar | str | None, name: str) -> str | None:
    """A factor as records carry it. NumPy scalars count as Python numbers. Raises BadInput for what is not a number."""
    if value is None:
        return None
    if not isinstance(value, str):
        import numpy as np

        value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        raise BadInput(f"{name} is {value}, not a number; write {int(value)}")
    text = value.strip() if isinstance(value, str) else str(value)
    parse_scalar(text)
    return text


def output_of(url: str | None, *, is_overwrite: bool = False) -> Output:
    """The output of that name. Raises BadInput when the name does not say the format."""
    if url is None:
        return Output()
    name = url.rstrip("/").lower()
    for suffix, (form, is_gzip) in _SUFFIXES.items():
        if name.endswith(suffix):
            return Output(url=url.rstrip("/"), format=form, is_overwrite=is_overwrite, is_gzip=is_gzip)  # type: ignore[arg-type]
    raise BadInput(f"the output {shown(url)} has no format tilefleet writes; end its name in .zarr, .npy, .csv or .csv.gz")


def record_of(
    request: Request,
    operands: Mapping[str, Operand],
    output: Output,
    *,
    operation: str,
    submitted_by: str = "",
) -> OperationRecord:
    """The record of a request whose sources were looked at. Raises BadInput for anything that cannot be computed.

    ``transpose`` is recorded as a copy of op(A) with op = transpose, so the coordinator treats it as it does ``convert``.
    """
    _check_request(request)
    a = operands.get("a")
    if request.kind == "transpose" and a is not None:
        a = Operand(a.matrix, not a.is_transposed)
    record = OperationRecord(
        id=operation,
        kind=request.kind,
        a=a,
        b=operands.get("b"),
        c=operands.get("c"),
        alpha=scalar_text(request.alpha, "alpha"),
        beta=scalar_text(request.beta, "beta"),
        random=request.random,
        out=output,
        csv_dtype=_plain(request.csv_dtype or request.dtype),
        dtype=_plain(request.dtype),
        tile=request.tile,
        submitted_by=submitted_by,
        command=request.command,
    )
    result_type(record)
    return record


def _plain(dtype: str | None) -> str | None:
    return None if dtype is None else dtype_name(dtype)


def result_type(record: OperationRecord) -> ResultType:
    """Shape and dtype of the result, by NumPy's rules. Raises BadInput where the operands do not go together."""
    match record.kind:
        case "multiply":
            return _product(record)
        case "add" | "subtract":
            return _sum(record)
        case "random":
            return check_random(record.random)
        case "verify":
            if record.checked is None:
                raise BadInput(f"operation {record.id} names no result to verify")
            return _typed(record, Operand(record.checked))
        case "convert" if record.dtype is not None:
            return ResultType(_typed(record, _needed(record, "a")).shape, dtype_name(record.dtype, "convert"))
        case "scale" | "transpose" | "convert":
            shape, dtype = _typed(record, _needed(record, "a"))
            return ResultType(shape, _scaled(record.alpha, dtype))


def shown(url: str) -> str:
    """A URL as people know it: local ones as paths, staged operands by their names."""
    if staged := _STAGED.search(url):
        return f"operand {staged[1]}"
    return place_text(url)


def _check_request(request: Request) -> None:
    kind, given = request.kind, request.sources
    missing = [name for name in _OPERANDS[kind] if name not in given]
    allowed = (*_OPERANDS[kind], *(("c",) if kind == "multiply" else ()))
    extra = [name for name in given if name not in allowed]
    if missing or extra:
        raise BadInput(f"{kind} {'needs' if missing else 'takes no'} matrix {(missing or extra)[0]}")
    if request.alpha is not None and kind not in ("multiply", "scale"):
        raise BadInput(f"{kind} takes no factor alpha; use scale or multiply")
    if kind == "scale" and request.alpha is None:
        raise BadInput("scale needs its factor alpha")
    if request.beta is not None and request.c is None:
        raise BadInput("beta was given without a matrix c to multiply it with; add c")
    if request.tile is not None and (len(request.tile) != 2 or min(request.tile) < 1):
        raise BadInput(f"the tile is {request.tile}; give two positive numbers, rows and columns, such as 1024×1024")
    if request.csv_dtype is not None:
        dtype_name(request.csv_dtype, "the dtype for CSV")
    if request.dtype is not None:
        dtype_name(request.dtype, "the result")
        if kind != "convert":
            raise BadInput(f"{kind} takes no element type; convert its result")


def _needed(record: OperationRecord, name: str) -> Operand:
    operand: Operand | None = getattr(record, name)
    if operand is None:
        raise BadInput(f"{record.kind} needs matrix {name}")
    return operand


def _typed(record: OperationRecord, operand: Operand) -> ResultType:
    matrix = operand.matrix
    name = matrix.dtype or (record.csv_dtype if matrix.format == "csv" else None)
    dtype = None if name is None else dtype_name(name, shown(matrix.url))
    return ResultType(None if matrix.shape is None else operand.shape, dtype)


def _product(record: OperationRecord) -> ResultType:
    a, b = _needed(record, "a"), _needed(record, "b")
    (a_shape, a_dtype), (b_shape, b_dtype) = _typed(record, a), _typed(record, b)
    if a_shape and b_shape and a_shape[1] != b_shape[0]:
        raise BadInput(
            f"{_described(a)} and {_described(b)}: the columns of the first ({a_shape[1]}) must equal the rows of the "
            f"second ({b_shape[0]}){_transpose_hint(a_shape, b_shape)}"
        )
    shape = (a_shape[0], b_shape[1]) if a_shape and b_shape else None
    dtype = None if a_dtype is None or b_dtype is None else promoted(a_dtype, b_dtype)
    dtype = _scaled(record.alpha, dtype)
    return ResultType(shape, dtype) if record.c is None else _plus_c(record, record.c, shape, dtype)


def _plus_c(record: OperationRecord, c: Operand, shape: Shape | None, dtype: str | None) -> ResultType:
    c_shape, c_dtype = _typed(record, c)
    if shape and c_shape and shape != c_shape:
        raise BadInput(f"{_described(c)} but the product it is added to is {_times(shape)}; the shapes must be equal")
    c_dtype = _scaled(record.beta, c_dtype)
    both = None if dtype is None or c_dtype is None else added_name(dtype, c_dtype)
    return ResultType(shape or c_shape, both)


def _sum(record: OperationRecord) -> ResultType:
    a, b = _needed(record, "a"), _needed(record, "b")
    (a_shape, a_dtype), (b_shape, b_dtype) = _typed(record, a), _typed(record, b)
    if a_shape and b_shape and a_shape != b_shape:
        hint = "; did you mean to transpose the second (--transpose-b)?" if a_shape == b_shape[::-1] else ""
        raise BadInput(f"{_described(a)} and {_described(b)}: {record.kind} needs equal shapes (there is no broadcasting){hint}")
    if a_dtype is None or b_dtype is None:
        return ResultType(a_shape or b_shape, None)
    return ResultType(a_shape or b_shape, added_name(a_dtype, b_dtype, is_subtraction=record.kind == "subtract"))


def check_random(spec: RandomSpec | None) -> ResultType:
    """Shape and dtype of a random matrix. Raises BadInput for what cannot be made."""
    from tilefleet.random_range import parse_range

    if spec is None:
        raise BadInput("random needs a shape, an element type, low, high and a seed")
    if len(spec.shape) != 2 or min(spec.shape) < 0:
        raise BadInput(f"the shape {spec.shape} is not one of a matrix; give rows and columns, such as 2000×3000")
    if spec.seed < 0:
        raise BadInput(f"the seed is {spec.seed}; give a number that is not negative")
    dtype = parse_dtype(spec.dtype, "the random matrix")
    parse_range(spec.low, spec.high, dtype)
    return ResultType(spec.shape, dtype.name)


def _scaled(factor: str | None, dtype: str | None) -> str | None:
    if factor is None or dtype is None:
        return dtype
    return scaled_dtype(parse_scalar(factor), parse_dtype(dtype)).name


def _times(shape: Shape) -> str:
    return f"{shape[0]}×{shape[1]}"


def _described(operand: Operand) -> str:
    prefix = "the transpose of " if operand.is_transposed else ""
    return f"{prefix}{shown(operand.matrix.url)} is {_times(operand.shape)}"


def _transpose_hint(a: Shape, b: Shape) -> str:
    if a[1] == b[1]:
        return "; did you mean to transpose the second (--transpose-b)?"
    return "; did you mean to transpose the first (--transpose-a)?" if a[0] == b[0] else ""


def verify_record(
    record: OperationRecord, result: MatrixRef, *, operation: str, submitted_by: str = "", command: str = ""
) -> OperationRecord:
    """A record that checks the result of another operation against that operation's operands. Raises BadInput."""
    if record.kind == "verify":
        raise BadInput(f"operation {record.id} is itself a verification; verify {record.verifies} instead")
    return OperationRecord(
        id=operation, kind="verify", a=record.a, b=record.b, c=record.c, alpha=record.alpha, beta=record.beta,
        random=record.random, csv_dtype=record.csv_dtype, verifies=record.id, verifies_kind=record.kind, checked=result,
        submitted_by=submitted_by, command=command, names={name: text for name, text in record.names.items() if name != "out"},
    )  # fmt: skip
