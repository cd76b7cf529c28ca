"""The stages of a product, and those that check a stored result against its operands."""

from __future__ import annotations

import msgspec
import numpy as np

from coordinator.core import cost
from coordinator.core.cost import FleetFacts, GemmShape
from coordinator.core.outputs import Places
from coordinator.core.stages import CheckStage, GemmStage, ProjectStage, ReduceStage, Stage, SyrkStage
from tilefleet.errors import BadInput
from tilefleet.footprint import peak_bytes
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Check, Elementwise, Epilogue, Gemm, Random, Reduce, Syrk, Term
from tilefleet.records import OperationRecord

CHECK_VECTORS = 20  # modulo 2^w each may miss an error of several elements in a row with probability 1/2: 1e-6 together
BAND_ROWS = 4096  # rows of op(B) or C per checking job, before memory says less


def product_stages(
    record: OperationRecord, out: MatrixRef, after: tuple[str, ...], places: Places, fleet: FleetFacts, job_target_s: float
) -> tuple[GemmStage | ReduceStage, ...]:
    """``alpha * op(A) @ op(B) + beta * C`` into tiles at ``out.url``; the planner chooses the tile unless the record says it."""
    a, b = both(record)
    product_dtype = np.result_type(np.dtype(a.matrix.dtype), np.dtype(b.matrix.dtype))
    epilogue = _epilogue(record)
    (m, k), n = a.shape, b.shape[1]
    is_symmetric = _is_symmetric(record, a, b)
    template = (Syrk if is_symmetric else Gemm)(a, b, out, Rect(0, m, 0, n), 0, k, 1, product_dtype.name, epilogue)
    choice = cost.choose_gemm(GemmShape(template, m, n, k, product_dtype, record.tile), fleet, job_target_s)
    out = msgspec.structs.replace(out, tile=choice.tile)
    stage = (SyrkStage if is_symmetric else GemmStage)(
        name="multiply", phase="compute", after=after, out=out, block=choice.block, a=a, b=b, panel_k=choice.panel_k,
        product_dtype=product_dtype.name, epilogue=epilogue, peak_bytes=choice.peak_bytes, job_s=choice.job_s + choice.again_s,
    )  # fmt: skip
    if choice.n_splits == 1:
        return (stage,)
    parts = msgspec.structs.replace(out, url=places.partial(), dtype=product_dtype.name)
    split = msgspec.structs.replace(stage, out=parts, epilogue=None, n_splits=choice.n_splits, split_k=choice.split_k)
    return (split, _reduce_stage(out, parts, choice.n_splits, epilogue, fleet))


def both(record: OperationRecord) -> tuple[Operand, Operand]:
    """The two operands of a product."""
    if record.a is None or record.b is None:
        raise BadInput(f"operation {record.id} is a product without two operands")
    return record.a, record.b


def _is_symmetric(record: OperationRecord, a: Operand, b: Operand) -> bool:
    """Whether it is a matrix times its own transpose, to which nothing is added, in tiles that may lie across the diagonal."""
    is_square = record.tile is None or record.tile[0] == record.tile[1]
    return a.matrix == b.matrix and a.is_transposed != b.is_transposed and record.c is None and is_square


def _epilogue(record: OperationRecord) -> Epilogue | None:
    if record.alpha is None and record.c is None:
        return None
    return Epilogue(record.alpha, record.beta, record.c)


def _reduce_stage(out: MatrixRef, parts: MatrixRef, n_parts: int, epilogue: Epilogue | None, fleet: FleetFacts) -> ReduceStage:
    block, peak = cost.choose_block(out, lambda rect: Reduce(parts, n_parts, out, rect, epilogue), fleet, n_parts)
    itemsize = np.dtype(parts.dtype).itemsize
    job_s = cost.JOB_OVERHEAD_S + (n_parts + 1) * block[0] * block[1] * itemsize / fleet.bytes_per_s
    return ReduceStage(
        name="reduce", phase="compute", after=("multiply",), out=out, block=block, parts=parts, n_parts=n_parts,
        epilogue=epilogue, peak_bytes=peak, job_s=job_s,
    )  # fmt: skip


def verify_stages(record: OperationRecord, after: tuple[str, ...], places: Places, fleet: FleetFacts) -> tuple[Stage, ...]:
    """Project op(B) on the check vectors, then compare bands of C; sums and copies are computed again, band by band."""
    result = record.checked
    if result is None or result.shape is None:
        raise BadInput(f"operation {record.id} names no result to verify")
    if record.verifies_kind == "multiply":
        return _product_checks(record, result, after, places, fleet)
    whole = Rect(0, result.shape[0], 0, result.shape[1])
    if record.random is not None:
        spec = record.random
        template = Check(result, whole, "", random=Random(result, whole, spec.low, spec.high, spec.seed))
    else:
        pairs = ((record.a, record.alpha), (record.b, record.beta))
        terms = tuple(Term(operand, factor) for operand, factor in pairs if operand is not None)
        again = Elementwise(terms, result, whole, record.verifies_kind == "subtract")
        template = Check(result, whole, "", elementwise=again)
    return (_check_stage(template, after, places, fleet),)


def _product_checks(
    record: OperationRecord, result: MatrixRef, after: tuple[str, ...], places: Places, fleet: FleetFacts
) -> tuple[Stage, ...]:
    a, b = both(record)
    (m, k), n = a.shape, b.shape[1]
    dtype = np.result_type(np.dtype(a.matrix.dtype), np.dtype(b.matrix.dtype)).name
    seed = _seed_of(record.id)
    project = ProjectStage(
        name="project", phase="verify", after=after, n_rows=k, n_cols=n, band_rows=BAND_ROWS,
        facts_url=places.facts("project"), b=b, seed=seed, n_vectors=CHECK_VECTORS, product_dtype=dtype,
    )  # fmt: skip
    peak = peak_bytes(project.work(0)) if project.n_jobs else 0
    while peak > fleet.job_bytes and project.band_rows > 1:
        project = msgspec.structs.replace(project, band_rows=project.band_rows // 2)
        peak = peak_bytes(project.work(0))
    project = msgspec.structs.replace(project, peak_bytes=peak, job_s=_read_s(project.band_rows * n, dtype, fleet))
    gemm = Gemm(a, b, result, Rect(0, m, 0, n), 0, k, min(k, 1024) or 1, dtype, _epilogue(record))
    template = Check(result, gemm.rect, "", seed, CHECK_VECTORS, gemm, places.facts("project"), project.band_rows, project.n_jobs)
    return (project, _check_stage(template, ("project", *after), places, fleet))


def _check_stage(template: Check, after: tuple[str, ...], places: Places, fleet: FleetFacts) -> CheckStage:
    shape = template.result.shape or (0, 0)
    stage = CheckStage(
        name="check", phase="verify", after=after, n_rows=shape[0], n_cols=shape[1], band_rows=BAND_ROWS,
        facts_url=places.facts("check"), template=template,
    )  # fmt: skip
    while stage.band_rows > 1 and stage.n_jobs and peak_bytes(stage.work(0)) > fleet.job_bytes:
        stage = msgspec.structs.replace(stage, band_rows=stage.band_rows // 2)
    peak = peak_bytes(stage.work(0)) if stage.n_jobs else 0
    k = template.product.k1 if template.product else 0
    job_s = _read_s(stage.band_rows * (shape[1] + k), template.result.dtype or "float64", fleet)
    return msgspec.structs.replace(stage, peak_bytes=peak, job_s=job_s)


def _read_s(elements: int, dtype: str, fleet: FleetFacts) -> float:
    return cost.JOB_OVERHEAD_S + elements * np.dtype(dtype).itemsize / fleet.bytes_per_s


def _seed_of(operation: str) -> int:
    """A seed nobody who wrote the result could know: from the random id of the verification."""
    return int.from_bytes(operation.encode(), "big") % 2**63
