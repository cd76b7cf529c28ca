from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from coordinator.cli.main import run


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("TILEFLEET_CONFIG", raising=False)
    np.save("a.npy", np.ones((600, 500), np.int32))
    np.save("tall.npy", np.ones((100_000, 8)))
    Path("b.csv").write_text("1,2,3\n" * 500)
    Path("b.csv.gz").write_bytes(gzip.compress(b"1,2,3\n" * 500))


def plan(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert run(["plan", *arguments, "--json"]) == 0, capsys.readouterr().err
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def stages(document: dict[str, object]) -> list[str]:
    found = document["stages"]
    assert isinstance(found, list)
    return [stage["name"] for stage in found]


def test_a_product_of_a_file_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    document = plan("multiply", "a.npy", "b.csv", "-o", "c.csv", capsys=capsys)
    assert document["result"] == {"shape": [600, 3], "dtype": "int64", "tile": None}
    assert [stage for stage in stages(document) if stage in ("parse_b", "multiply", "export", "publish")] == [
        "parse_b", "multiply", "export", "publish",
    ]  # fmt: skip
    assert document["why"]


def test_compressed_text_is_unpacked_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert "gunzip" in stages(plan("multiply", "a.npy", "b.csv.gz", capsys=capsys))[0]


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        (("matmul", "a.npy", "a.npy", "--transpose-a"), [500, 500]),
        (("add", "a.npy", "a.npy"), [600, 500]),
        (("subtract", "a.npy", "a.npy"), [600, 500]),
        (("transpose", "a.npy"), [500, 600]),
        (("scale", "a.npy", "2"), [600, 500]),
        (("convert", "a.npy", "a.zarr"), [600, 500]),
        (("random", "40x50"), [40, 50]),
        (("multiply", "tall.npy", "tall.npy", "--transpose-a"), [8, 8]),
    ],
)
def test_every_kind(arguments: tuple[str, ...], shape: list[int], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = plan(*arguments, capsys=capsys)
    result = document["result"]
    assert isinstance(result, dict)
    assert result["shape"] == shape
    assert not (tmp_path / "state").exists()


def test_the_text_names_jobs_memory_time_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "multiply", "a.npy", "a.npy", "--transpose-b"]) == 0
    text = capsys.readouterr().out
    for word in ("what         a.npy @ a.npyᵀ", "\njobs ", "\nmoved ", "\npeak memory ", "\npredicted ", "\nWhy:\n"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["multiply", "a.npy", "a.npy"], 3),
        (["multiply", "a.npy"], 2),
        (["invert", "a.npy"], 2),
        (["add", "a.npy", "absent.npy"], 4),
    ],
)
def test_what_cannot_be_planned(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *arguments]) == code
    assert capsys.readouterr().out == ""
