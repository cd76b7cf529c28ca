"""``--compare numpy``: the same computation with NumPy in this process, timed: load, compute, save.

It holds whole matrices, as NumPy does, so it is refused where they would not fit this machine's free memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tilefleet.dtypes import parse_scalar
from tilefleet.errors import BadInput, DoesNotFit
from tilefleet.quantities import format_bytes
from tilefleet.store import path_of

if TYPE_CHECKING:
    from tilefleet.matrix import MatrixRef, Operand
    from tilefleet.records import OperationRecord, OperationStatus

CSV_GROWTH = 4  # bytes of an int64 array for each byte of "7,7,7,…": 8 for 2
SHARE = 0.6  # of the free memory: NumPy's own temporaries need room too


def time_numpy(record: OperationRecord, status: OperationStatus) -> Mapping[str, float]:
    """Seconds by phase: ingest (load), compute, export (save, of the same format), total.

    Raises DoesNotFit when the matrices are too large for this machine, BadInput for operands that are not files here.
    """
    operands = [operand for operand in (record.a, record.b, record.c) if operand is not None]
    _check_memory(operands, status.result)
    started = time.perf_counter()
    a, b, c = (_load(operand) if operand else None for operand in (record.a, record.b, record.c))
    loaded = time.perf_counter()
    with np.errstate(all="ignore"):
        result = compute(record, a, b, c)
    computed = time.perf_counter()
    _save(result, record)
    saved = time.perf_counter()
    return {"ingest": loaded - started, "compute": computed - loaded, "export": saved - computed, "total": saved - started}


def compute(record: OperationRecord, a: Any, b: Any, c: Any) -> np.ndarray:
    """What the record asks for, in NumPy."""
    alpha, beta = (None if text is None else parse_scalar(text) for text in (record.alpha, record.beta))
    match record.kind:
        case "multiply":
            product = a @ b if alpha is None else alpha * (a @ b)
            return np.asarray(product if c is None else product + (c if beta is None else beta * c))
        case "add":
            return np.asarray(a + b)
        case "subtract":
            return np.asarray(a - b)
        case "scale":
            return np.asarray(alpha * a)
        case "transpose":
            return np.ascontiguousarray(a)
    raise BadInput(f"--compare numpy does not know {record.kind}")


def _check_memory(operands: list[Operand], result: MatrixRef | None) -> None:
    import psutil

    needed = sum(_bytes(operand.matrix) for operand in operands) + (2 * _bytes(result) if result else 0)
    free = int(psutil.virtual_memory().available * SHARE)
    if needed > free:
        raise DoesNotFit(
            f"--compare numpy would hold about {format_bytes(needed)} in memory and {format_bytes(free)} may be used here; "
            "leave it out, or compare on a smaller matrix"
        )


def _bytes(ref: MatrixRef) -> int:
    if ref.shape is None or ref.dtype is None:
        return ref.size_bytes * CSV_GROWTH * (10 if ref.is_gzip else 1)
    return ref.shape[0] * ref.shape[1] * np.dtype(ref.dtype).itemsize


def _load(operand: Operand) -> np.ndarray:
    ref = operand.matrix
    if not ref.url.startswith("file:"):
        raise BadInput(f"--compare numpy reads files of this machine; {ref.url} is not one")
    path = path_of(ref.url)
    if ref.format == "npy":
        array: np.ndarray = np.load(path, allow_pickle=False)
    elif ref.format == "csv":
        array = _load_csv(path, ref.dtype)
    else:
        import zarr

        array = np.asarray(zarr.open_array(path, mode="r")[:])
    return array.T if operand.is_transposed else array


def _load_csv(path: Path, dtype: str | None) -> np.ndarray:
    try:
        return np.loadtxt(path, delimiter=",", dtype=dtype or np.int64, ndmin=2)
    except ValueError:
        return np.loadtxt(path, delimiter=",", ndmin=2)


def _save(result: np.ndarray, record: OperationRecord) -> None:
    """To a temporary file beside the output, or in the temporary directory: the same format, so the same work."""
    url = record.out.url or ""
    beside = path_of(url).parent if url.startswith("file:") else None
    with tempfile.TemporaryDirectory(dir=beside, prefix=".numpy-") as directory:
        if record.out.format == "csv":
            suffix = ".csv.gz" if record.out.is_gzip else ".csv"
            np.savetxt(
                Path(directory) / f"out{suffix}", result, delimiter=",", fmt="%d" if result.dtype.kind in "biu" else "%.17g"
            )
        else:
            np.save(Path(directory) / "out.npy", result, allow_pickle=False)
