"""What an operation would run, in words: pure functions from the plan to text and document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from coordinator.cli import render
from coordinator.core.cost import FleetFacts, gemm_flops, lower_bound_bytes
from coordinator.core.plans import Plan
from coordinator.core.stages import BandStage, BlockStage, GemmStage, ParseStage, ReduceStage, Stage
from tilefleet.matrix import MatrixRef, ceil_div
from tilefleet.quantities import format_bytes, format_seconds
from tilefleet.records import OperationRecord


class Explanation(NamedTuple):
    """A plan and what it was made for."""

    record: OperationRecord
    plans: Sequence[Plan]
    fleet: FleetFacts
    workers: str
    """Where the facts of the fleet come from, in words."""
    job_target_s: float

    @property
    def stages(self) -> list[Stage]:
        return [stage for plan in self.plans for stage in plan.stages]

    @property
    def result(self) -> MatrixRef | None:
        return self.plans[-1].result

    @property
    def predicted_s(self) -> float:
        return sum(plan.predicted_s for plan in self.plans)


def as_text(found: Explanation) -> str:
    """``tilefleet plan`` for people."""
    rows = [("what", render.expression(found.record))]
    if found.result is not None:
        rows.append(("result", f"{render.matrix_text(found.result)}, {_tiles(found.result)}"))
    rows += [
        ("workers", _workers(found)),
        ("jobs", str(sum(stage.n_jobs for stage in found.stages))),
        ("moved", format_bytes(sum(moved_bytes(stage) for stage in found.stages))),
        ("peak memory", f"{format_bytes(peak_bytes(found.stages))} for one job; {format_bytes(found.fleet.job_bytes)} are there"),
        ("predicted", format_seconds(found.predicted_s)),
    ]
    parts = [render.table(rows), stages_text(found.stages)]
    reasons = why(found)
    return "\n\n".join([*parts, *(["Why:\n" + "\n".join(f"  - {reason}" for reason in reasons)] if reasons else [])])


def stages_text(stages: Sequence[Stage]) -> str:
    """One row for each stage."""
    rows = [("stage", "phase", "jobs", "block", "one job", "peak memory", "moved")]
    rows += [
        (
            stage.name,
            stage.phase,
            str(stage.n_jobs),
            block_text(stage),
            format_seconds(stage.job_s) if stage.job_s else "",
            format_bytes(stage.peak_bytes) if stage.peak_bytes else "",
            format_bytes(moved_bytes(stage)) if moved_bytes(stage) else "",
        )
        for stage in stages
    ]
    return render.table(rows, right=(2, 4, 5, 6), indent="  ", gap="   ")


def document(found: Explanation) -> dict[str, Any]:
    """The same for programs."""
    return {
        "what": render.expression(found.record),
        "result": {"shape": found.result.shape, "dtype": found.result.dtype, "tile": found.result.tile} if found.result else None,
        "workers": found.fleet.n_workers,
        "worker_memory_bytes": found.fleet.memory_bytes,
        "job_memory_bytes": found.fleet.job_bytes,
        "jobs": sum(stage.n_jobs for stage in found.stages),
        "moved_bytes": sum(moved_bytes(stage) for stage in found.stages),
        "peak_bytes": peak_bytes(found.stages),
        "predicted_s": found.predicted_s,
        "stages": [
            {
                "name": stage.name, "phase": stage.phase, "after": list(stage.after), "jobs": stage.n_jobs,
                "block": list(stage.block) if isinstance(stage, BlockStage) else None, "job_s": stage.job_s,
                "peak_bytes": stage.peak_bytes, "moved_bytes": moved_bytes(stage),
            }
            for stage in found.stages
        ],
        "why": why(found),
    }  # fmt: skip


def why(found: Explanation) -> list[str]:
    """The reasons for how a product is cut, with the numbers they rest on."""
    return [reason for stage in found.stages if isinstance(stage, GemmStage) for reason in _why_product(stage, found)]


def moved_bytes(stage: Stage) -> int:
    """Bytes all jobs of a stage read and write, about: operands once per block that needs them, results once."""
    if isinstance(stage, GemmStage):
        (m, n), (rows, cols) = stage.out.grid.shape, stage.block
        read = (ceil_div(n, cols) * m * _itemsize(stage.a.matrix) + ceil_div(m, rows) * n * _itemsize(stage.b.matrix)) * stage.k
        return read + stage.n_splits * _bytes(stage.out)
    if isinstance(stage, ReduceStage):
        return stage.n_parts * _bytes(stage.parts) + _bytes(stage.out)
    if isinstance(stage, ParseStage):
        return stage.source.size_bytes + _bytes(stage.out)
    if isinstance(stage, BlockStage):
        return _bytes(stage.out) * (1 + len(getattr(stage, "terms", ())))
    if isinstance(stage, BandStage):
        template = getattr(stage, "source", None) or getattr(stage, "result", None)
        return 2 * _bytes(template) if isinstance(template, MatrixRef) else 0
    source = getattr(stage, "source", None)
    return source.size_bytes if isinstance(source, MatrixRef) else 0


def peak_bytes(stages: Sequence[Stage]) -> int:
    """The most that any one job needs."""
    return max((stage.peak_bytes for stage in stages), default=0)


def block_text(stage: Stage) -> str:
    """``2048 × 1024``, cut at the edge of the matrix; with the number of cuts of k, where there are some."""
    if not isinstance(stage, BlockStage):
        return ""
    rows, cols = (min(side, length) for side, length in zip(stage.block, stage.out.grid.shape, strict=True))
    splits = f", k in {stage.n_splits}" if isinstance(stage, GemmStage) and stage.n_splits > 1 else ""
    return render.shape_text((rows, cols)) + splits


def _why_product(stage: GemmStage, found: Explanation) -> list[str]:
    (m, n), k = stage.out.grid.shape, stage.k
    least = lower_bound_bytes(m, n, k, np.dtype(stage.product_dtype).itemsize, found.fleet.memory_bytes)
    flop = render.rate_text(gemm_flops(m, n, k), "FLOP")
    jobs, workers = render.count_text(stage.n_jobs, "job"), render.count_text(found.fleet.n_workers, "worker")
    cut = (
        f"{flop} in {jobs} for {workers}; each job holds its block of the result and streams panels of {stage.panel_k} "
        "columns of A and rows of B"
    )
    traffic = (
        f"it moves {format_bytes(moved_bytes(stage))}; the least possible with this memory is about {format_bytes(least)} "
        "(2mnk/√S); larger blocks would move less, smaller ones spread better"
    )
    length = (
        f"a job takes about {format_seconds(stage.job_s)}, and no job is planned above {format_seconds(found.job_target_s)} "
        "(coordinator.job_target)"
    )
    blocks = render.count_text(stage.blocks.n_tiles, "block")
    split = f"the result has only {blocks}, fewer than there are workers: k is cut in {stage.n_splits} and added up"
    return [cut, traffic, length, *([split] if stage.n_splits > 1 else [])]


def _workers(found: Explanation) -> str:
    fleet = found.fleet
    speeds = f"{render.rate_text(fleet.flops_per_s, 'FLOP/s')}, {render.rate_text(fleet.bytes_per_s, 'B/s')}"
    return f"{fleet.n_workers}, {format_bytes(fleet.memory_bytes)} for data each, {speeds} ({found.workers})"


def _tiles(ref: MatrixRef) -> str:
    return f"in {ref.grid.n_tiles} tiles of {render.shape_text(ref.tile)}" if ref.tile else f"as {ref.format}"


def _itemsize(ref: MatrixRef) -> int:
    return np.dtype(ref.dtype).itemsize if ref.dtype else 8


def _bytes(ref: MatrixRef) -> int:
    return ref.shape[0] * ref.shape[1] * _itemsize(ref) if ref.shape else ref.size_bytes
