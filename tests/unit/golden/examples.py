"""The objects behind the golden files: every field differs from its default somewhere."""

from __future__ import annotations

from typing import Any

import msgspec

from tilefleet import facts as f
from tilefleet import messages as m
from tilefleet import records as r
from tilefleet.errors import ErrorInfo
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.wire import Wire

OP = "3f9k2m7q0xyz"
ZARR = MatrixRef("s3://bucket/a.zarr", "zarr", (1000, 600), "float64", (256, 512), is_ours=True)
FOREIGN = MatrixRef("s3://bucket/b.zarr", "zarr", (600, 800), "complex64", (100, 100), layout="codec", fill_value="1+2j")
NPY = MatrixRef(
    "file:///data/a.npy", "npy", (3, 4), "int16", size_bytes=152, data_offset_bytes=128, is_fortran_order=True, is_big_endian=True
)
CSV = MatrixRef("file:///data/a.csv.gz", "csv", size_bytes=99, is_gzip=True)
OUT = MatrixRef(f"s3://bucket/matrices/{OP}", "zarr", (1000, 800), "complex128", (256, 256), is_ours=True)
RECT = Rect(256, 512, 0, 800)
EPILOGUE = m.Epilogue("2", "-0.5", Operand(OUT))
GEMM = m.Gemm(Operand(ZARR), Operand(FOREIGN, is_transposed=True), OUT, RECT, 0, 600, 128, "complex128", EPILOGUE)
SYRK = m.Syrk(Operand(ZARR), Operand(ZARR, is_transposed=True), OUT, RECT, 0, 600, 128, "float64", m.Epilogue("2"))
ELEMENTWISE = m.Elementwise((m.Term(Operand(ZARR), "3"), m.Term(Operand(NPY))), OUT, RECT, is_subtraction=True)
RANDOM = m.Random(OUT, RECT, "0", "10", 7)
TIMES = m.JobTimes(2.5, 0.25, 0.5, 1.5, 0.125, 0.25, 1000, 2000, 3000)
TOTALS = r.Totals(8, 9, 0.25, 0.5, 1.5, 0.125, 0.25, 1000, 2000, 3000, 0.01, 8, 0)
WHO: dict[str, Any] = {"fleet": "demo", "worker": "node-1", "incarnation": "a1b2"}
JOB_NAME: dict[str, Any] = {"operation": OP, "stage": "multiply", "index": 12, "attempt": 1}


def job(work: m.Work) -> m.Job:
    """A job with that work."""
    return m.Job(fleet="demo", **JOB_NAME, epoch=3, peak_bytes=400_000_000, work=work)


RECORD = r.OperationRecord(
    id=OP, kind="multiply", a=Operand(ZARR), b=Operand(FOREIGN, is_transposed=True), c=Operand(CSV), alpha="2", beta="-0.5",
    random=r.RandomSpec((10, 20), "int64", "0", "10", 7), verifies="0000000000zz", verifies_kind="add", checked=OUT,
    out=r.Output("s3://bucket/out.csv.gz", "csv", is_overwrite=True, is_gzip=True), csv_dtype="float32", dtype="int8",
    tile=(256, 256), submitted_at=1.8e9, submitted_by="ada@host", submit_s=0.5, command="tilefleet multiply a.zarr b.zarr",
    names={"c": "/home/ada/a.csv.gz", "out": "/home/ada/out.csv.gz"},
)  # fmt: skip
STATUS = r.OperationStatus(
    id=OP, state="failed", epoch=3, kind="add", updated_at=1.8e9, accepted_at=1.8e9, started_at=1.8e9, finished_at=1.8e9 + 9,
    expires_at=1.9e9, note="no worker is there", stages=(r.StageStatus("multiply", "compute", 16, 4, 2, 1.5),),
    phases_s={"submit": 0.5, "total": 9.0}, totals=TOTALS, predicted_s=8.0, remaining_s=4.0, workers=("node-1",), result=OUT,
    verdict="all 800 rows agree", error=ErrorInfo("bad_input", "a.csv, line 3: ragged"),
    wrong_results={"node-2": 3},
)  # fmt: skip
CONTROL = r.Control(
    epoch=3, at=1.8e9, fleet="demo", leader="coordinator-1", version="0.1.0", cancelled=(OP,), n_open=2,
    workers=(r.WorkerView("node-1", "a1b2", "0.1.0", 2, 8_000_000_000, 5e10, 1e9, 1.8e9, 1, (f"{OP} multiply/12",)),),
    remaining_worker_s=90.5, departed={"node-2": "EC2 takes this spot instance away (terminate)"},
)  # fmt: skip

EXAMPLES: dict[str, msgspec.Struct] = {
    "submit": m.Submit("demo", OP),
    "cancel": m.Cancel("demo", OP),
    "job-gemm": job(GEMM),
    "job-syrk": job(SYRK),
    "job-gemm-halved": msgspec.structs.replace(job(GEMM), halvings=2),
    "job-reduce": job(m.Reduce(ZARR, 4, OUT, RECT, EPILOGUE)),
    "job-elementwise": job(ELEMENTWISE),
    "job-random": job(RANDOM),
    "job-gunzip": job(m.Gunzip(CSV, CSV)),
    "job-scan_csv": job(m.ScanCsv(CSV, 0, 1 << 26, 1 << 20, "s3://bucket/f/0", "float32")),
    "job-parse_csv": job(m.ParseCsv(CSV, OUT, RECT, 0, 1 << 26, 17)),
    "job-export": job(m.Export(OUT, RECT, "csv", "s3://bucket/p/0")),
    "job-publish": job(m.Publish(OUT, OP, "s3://bucket/p", 4, "file:///d/.out.partial", is_overwrite=True)),
    "job-project": job(m.Project(Operand(FOREIGN), RECT, 7, 2, "complex128", "s3://bucket/f/0")),
    "job-check-product": job(m.Check(OUT, RECT, "s3://bucket/f/0", 7, 2, GEMM, "s3://bucket/f", 256, 3)),
    "job-check-elementwise": job(m.Check(OUT, RECT, "s3://bucket/f/0", elementwise=ELEMENTWISE)),
    "job-check-random": job(m.Check(OUT, RECT, "s3://bucket/f/0", random=RANDOM)),
    "hello": m.WorkerHello(
        **WHO, version="0.1.0", cores=2, memory_bytes=8_000_000_000, flops_per_s=5e10, bytes_per_s=1e9, slots=3
    ),
    "heartbeat": m.WorkerHeartbeat(**WHO, held=((OP, "multiply", 12, 1),)),
    "bye": m.WorkerBye(**WHO, reason="EC2 takes this spot instance away (terminate)"),
    "done": m.JobDone(**WHO, **JOB_NAME, times=TIMES, check_worst=0.01, facts=f.CsvFacts((10, 0, 3), 4, "int64")),
    "done-check": m.JobDone(**WHO, **JOB_NAME, times=TIMES, facts=f.CheckFacts(0.5, 2, 17)),
    "failed": m.JobFailed(**WHO, **JOB_NAME, error=ErrorInfo("unreachable", "the store did not answer"), is_retryable=True),
    "facts-bytes": f.BytesFact(1234),
    "record": RECORD,
    "status": STATUS,
    "control": CONTROL,
    "dead_letter": r.DeadLetter(1.8e9, "demo-jobs-dead", "not a message of ours", "{}", OP),
}


def encoded(example: msgspec.Struct) -> bytes:
    """As it is sent (messages, facts) or stored (records)."""
    return m.encode(example).encode() if isinstance(example, Wire) else r.to_json(example)


def decoded(data: bytes, example: msgspec.Struct) -> object:
    """Read as its reader reads it."""
    match example:
        case m.Submit() | m.Cancel():
            return m.decode_client(data.decode())
        case m.Job():
            return m.decode_job(data.decode())
        case f.CsvFacts() | f.CheckFacts() | f.BytesFact():
            return f.decode_facts(data)
        case Wire():
            return m.decode_worker(data.decode())
        case _:
            return r.from_json(data, type(example), "golden file")
