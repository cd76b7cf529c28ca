"""The JSON that ``--json`` prints. Stable: keys are only ever added. Times of day are seconds since 1970 (UTC), durations
seconds, sizes bytes; what is not known is null. docs/reference/cli.md shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from coordinator.cli.render import expression
from tilefleet.errors import ErrorInfo
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import OperationRecord, OperationStatus


def operation(
    record: OperationRecord, status: OperationStatus | None, numpy_s: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """One operation, as ``multiply``, ``show``, ``watch`` … print it and ``list`` collects it."""
    stages = status.stages if status else ()
    return {
        "id": record.id,
        "kind": record.kind,
        "state": status.state if status else "submitted",
        "what": expression(record),
        "operands": {name: _operand(operand) for name, operand in _operands(record)},
        "alpha": record.alpha,
        "beta": record.beta,
        "out": record.out.url,
        "command": record.command,
        "submitted_at": record.submitted_at,
        "submitted_by": record.submitted_by,
        "finished_at": (status.finished_at or None) if status else None,
        "expires_at": status.expires_at if status else None,
        "result": matrix(status.result) if status and status.result else None,
        "jobs_done": sum(stage.n_done for stage in stages),
        "jobs_total": sum(stage.n_jobs for stage in stages),
        "stages": [msgspec.to_builtins(stage) for stage in stages],
        "phases_s": dict(status.phases_s) if status else {},
        "numpy_s": dict(numpy_s) if numpy_s else None,
        "totals": msgspec.to_builtins(status.totals) if status else None,
        "predicted_s": status.predicted_s if status else None,
        "remaining_s": status.remaining_s if status else None,
        "workers": list(status.workers) if status else [],
        "wrong_results": dict(status.wrong_results) if status else {},
        "note": (status.note or None) if status else None,
        "verdict": (status.verdict or None) if status else None,
        "error": error(status.error) if status and status.error else None,
    }


def matrix(ref: MatrixRef) -> dict[str, Any]:
    """A matrix, as ``info`` prints it."""
    return {
        "url": ref.url,
        "format": ref.format,
        "shape": list(ref.shape) if ref.shape else None,
        "dtype": ref.dtype,
        "tile": list(ref.tile) if ref.tile else None,
        "layout": ref.layout if ref.format == "zarr" else None,
        "is_ours": ref.is_ours,
        "size_bytes": ref.size_bytes or None,
        "is_gzip": ref.is_gzip,
        "is_fortran_order": ref.is_fortran_order,
        "is_big_endian": ref.is_big_endian,
    }


def error(info: ErrorInfo) -> dict[str, str]:
    """An error, as it stands under ``"error"``."""
    return {"code": info.code, "sentence": info.sentence}


def _operand(operand: Operand) -> dict[str, Any]:
    return {**matrix(operand.matrix), "is_transposed": operand.is_transposed}


def _operands(record: OperationRecord) -> list[tuple[str, Operand]]:
    return [(name, operand) for name, operand in (("a", record.a), ("b", record.b), ("c", record.c)) if operand is not None]
