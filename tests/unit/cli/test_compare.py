from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.cli import compare
from tests.unit.cli.samples import DONE, ID
from tilefleet.errors import BadInput, DoesNotFit
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import Kind, OperationRecord, Output

A = np.array([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("kind", "alpha", "beta", "expected"),
    [
        ("multiply", None, None, A @ A),
        ("multiply", "2", "0.5", 2 * (A @ A) + 0.5 * A),
        ("add", None, None, A + A),
        ("subtract", None, None, A - A),
        ("scale", "0.5", None, 0.5 * A),
        ("transpose", None, None, A),
    ],
)
def test_it_computes_what_the_record_says(kind: Kind, alpha: str | None, beta: str | None, expected: np.ndarray) -> None:
    record = OperationRecord(id=ID, kind=kind, alpha=alpha, beta=beta)
    result = compare.compute(record, A, A, A if beta else None)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == expected.dtype


def test_times_of_load_compute_and_save_and_nothing_is_left(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.csv", A, fmt="%d", delimiter=",")
    operand = Operand(MatrixRef(url=(tmp_path / "a.csv").as_uri(), format="csv", size_bytes=8))
    out = Output(url=(tmp_path / "c.csv").as_uri(), format="csv")
    times = compare.time_numpy(OperationRecord(id=ID, kind="multiply", a=operand, b=operand, out=out), DONE)
    assert set(times) == {"ingest", "compute", "export", "total"}
    assert times["total"] == pytest.approx(times["ingest"] + times["compute"] + times["export"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_matrices_beyond_this_machines_memory_are_refused() -> None:
    huge = Operand(MatrixRef(url="file:///x.npy", format="npy", shape=(10**7, 10**7), dtype="float64"))
    with pytest.raises(DoesNotFit, match="leave it out"):
        compare.time_numpy(OperationRecord(id=ID, kind="scale", a=huge, alpha="2"), DONE)


def test_operands_that_are_not_files_here_are_refused() -> None:
    far = Operand(MatrixRef(url="s3://b/x.npy", format="npy", shape=(2, 2), dtype="float64"))
    with pytest.raises(BadInput, match="files of this machine"):
        compare.time_numpy(OperationRecord(id=ID, kind="scale", a=far, alpha="2"), DONE)
