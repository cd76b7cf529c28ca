"""Records and statuses that the tests of the CLI share."""

from __future__ import annotations

from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import Control, OperationRecord, OperationStatus, Output, StageStatus, Totals, WorkerView

ID = "7k2mq0xw3rt5"
NOW_S = 1_800_000_000.0

A = MatrixRef(url="file:///data/a.npy", format="npy", shape=(2000, 300), dtype="int64", size_bytes=4_800_128)
B = MatrixRef(url="file:///data/my%20b.csv", format="csv", size_bytes=1_200_000)
C = MatrixRef(url="s3://bucket/c.zarr", format="zarr", shape=(2000, 500), dtype="float64", tile=(512, 500), is_ours=True)
RESULT = MatrixRef(url=f"file:///state/store/matrices/{ID}", format="zarr", shape=(2000, 500), dtype="float64", tile=(512, 500))

RECORD = OperationRecord(
    id=ID,
    kind="multiply",
    a=Operand(A),
    b=Operand(B, is_transposed=True),
    c=Operand(C),
    alpha="2",
    beta="0.5",
    submitted_at=NOW_S - 90,
    submitted_by="ada@engine",
    command="tilefleet multiply a.npy 'my b.csv'",
)
TO_FILE = OperationRecord(
    id=ID, kind="add", a=Operand(A), b=Operand(A), out=Output(url="file:///data/sum.npy", format="npy"), submitted_at=NOW_S - 90
)
RUNNING = OperationStatus(
    id=ID,
    state="running",
    epoch=3,
    stages=(
        StageStatus(name="parse_b", phase="ingest", n_jobs=2, n_done=2, elapsed_s=0.5),
        StageStatus(name="gemm", phase="compute", n_jobs=10, n_done=4, n_running=2, elapsed_s=2.0),
    ),
    totals=Totals(jobs=6, attempts=6, flops=16_000_000_000, bytes_read=400_000_000, bytes_written=100_000_000),
    workers=("node-1",),
)
DONE = OperationStatus(
    id=ID,
    state="done",
    epoch=3,
    stages=(StageStatus(name="gemm", phase="compute", n_jobs=10, n_done=10, elapsed_s=4.0),),
    phases_s={"submit": 0.004, "ingest": 0.5, "plan": 0.001, "queue_wait": 0.02, "compute": 4.0, "commit": 0.25, "total": 75.2},
    totals=Totals(
        jobs=10, attempts=11, flops=32_000_000_000, bytes_read=2**30, bytes_written=2**20, checked_jobs=10, check_worst=0.02
    ),
    finished_at=NOW_S,
    expires_at=NOW_S + 7 * 86400,
    result=RESULT,
)
CONTROL = Control(
    epoch=3,
    at=NOW_S,
    fleet="local",
    leader="x",
    version="0.1.0",
    workers=(
        WorkerView(name="node-1", incarnation="i", version="0.1.0", cores=4, memory_bytes=2**30, flops_per_s=1e10,
                   bytes_per_s=1e9, heard_at=NOW_S - 2, held=1),
        WorkerView(name="node-2", incarnation="j", version="0.1.0", cores=4, memory_bytes=2**30, flops_per_s=1e10,
                   bytes_per_s=1e9, heard_at=NOW_S - 2, held=0),
    ),
)  # fmt: skip
