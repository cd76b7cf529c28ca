from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from coordinator.cli.data import corner_rows, corner_text, means_operation, parse_shape
from coordinator.cli.main import run
from tilefleet.errors import BadInput

MATRIX = np.arange(12.0).reshape(3, 4)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("TILEFLEET_CONFIG", raising=False)
    np.save("a.npy", MATRIX)
    text = "".join(",".join(str(int(value)) for value in row) + "\n" for row in MATRIX)
    Path("a.csv").write_text(text)
    Path("a.csv.gz").write_bytes(gzip.compress(text.encode()))
    import zarr

    zarr.create_array("a.zarr", data=MATRIX, chunks=(2, 2), zarr_format=3)


@pytest.mark.parametrize(
    ("name", "dtype", "form"),
    [("a.npy", "float64", "npy"), ("a.csv", "int64", "csv"), ("a.csv.gz", "int64", "csv"), ("a.zarr", "float64", "zarr")],
)
def test_info_and_head_of_each_format(name: str, dtype: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["shape"], document["dtype"], document["format"]) == ([3, 4], dtype, form)
    assert run(["info", name]) == 0
    assert "shape     3 × 4" in " ".join(capsys.readouterr().out.split("\n")).replace("shape          ", "shape     ")
    assert run(["head", name, "--rows", "2", "--cols", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == [[0, 1, 2], [4, 5, 6]]
    assert run(["head", name, "--rows", "2", "--cols", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == ("[[0. 1. 2.]" if dtype == "float64" else "[[0 1 2]")


def test_a_corner_says_what_it_is_of() -> None:
    assert corner_text(np.array([[1, 2], [3, 4]]), (9, 8), 80) == "[[1 2]\n [3 4]]\ncorner 2 × 2 of 9 × 8, int64"
    assert corner_text(np.array([[1, 2], [3, 4]]), (2, 2), 80) == "[[1 2]\n [3 4]]\n2 × 2 int64"
    assert corner_text(np.array([[1, 2]]), None, 80) == "[[1 2]]\ncorner 1 × 2, int64"


def test_json_has_no_nan_and_no_complex_numbers() -> None:
    rows = corner_rows(np.array([[np.nan, np.inf, 1.5]]))
    assert rows == [["nan", "inf", 1.5]]
    assert corner_rows(np.array([[1 + 2j]])) == [["1+2j"]]
    json.loads(json.dumps(rows))


@pytest.mark.parametrize("text", ["2000x300", "2000×300", "2000,300", " 2000 X 300 ", "2000*300"])
def test_shapes(text: str) -> None:
    assert parse_shape(text) == (2000, 300)


@pytest.mark.parametrize("text", ["2000", "2x3x4", "-1x2", "axb", "", "2 3", "1e3x2"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(BadInput, match="write rows and columns as 2000x3000"):
        parse_shape(text)


def test_an_id_or_last_means_an_operation_unless_a_file_has_that_name(tmp_path: Path) -> None:
    assert means_operation("last")
    assert means_operation("7k2")
    assert not means_operation("a.npy")
    (tmp_path / "7k2").mkdir()
    assert not means_operation("7k2")
