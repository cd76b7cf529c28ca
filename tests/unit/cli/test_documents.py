from __future__ import annotations

import json

from coordinator.cli import documents
from tests.unit.cli.samples import DONE, ID, RECORD, C
from tilefleet.errors import ErrorInfo
from tilefleet.records import OperationStatus

KEYS = {
    "id", "kind", "state", "what", "operands", "alpha", "beta", "out", "command", "submitted_at", "submitted_by", "finished_at",
    "expires_at", "result", "jobs_done", "jobs_total", "stages", "phases_s", "numpy_s", "totals", "predicted_s", "remaining_s",
    "workers", "wrong_results", "note", "verdict", "error",
}  # fmt: skip


def test_an_operation_has_every_key_whatever_its_state() -> None:
    failed = OperationStatus(id=ID, state="failed", epoch=1, error=ErrorInfo("bad_input", "ragged"))
    for status in (None, DONE, failed):
        document = documents.operation(RECORD, status)
        assert set(document) == KEYS
        assert json.loads(json.dumps(document)) == document


def test_what_an_operation_says() -> None:
    document = documents.operation(RECORD, DONE, {"total": 35.0})
    assert (document["id"], document["state"], document["jobs_done"]) == (ID, "done", 10)
    assert document["operands"]["b"]["is_transposed"] is True
    assert document["operands"]["b"]["shape"] is None
    assert document["result"]["shape"] == [2000, 500]
    assert document["numpy_s"] == {"total": 35.0}
    assert documents.operation(RECORD, None)["state"] == "submitted"


def test_a_matrix() -> None:
    assert documents.matrix(C) == {
        "url": "s3://bucket/c.zarr", "format": "zarr", "shape": [2000, 500], "dtype": "float64", "tile": [512, 500],
        "layout": "raw+crc32c", "is_ours": True, "size_bytes": None, "is_gzip": False, "is_fortran_order": False,
        "is_big_endian": False,
    }  # fmt: skip
