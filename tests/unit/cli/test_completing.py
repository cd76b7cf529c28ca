from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.cli.completing import formats, operation_ids


def test_directories_and_matrices_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "a.csv", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.csv.gz").touch()
    assert formats("") == ["a.csv", "a.npy", "a.zarr", "data/"]
    assert formats("a.z") == ["a.zarr"]
    assert formats("data/") == ["data/b.csv.gz"]
    assert formats(f"{tmp_path}/data/b") == [f"{tmp_path}/data/b.csv.gz"]
    assert formats("s3://bucket/") == []
    assert formats("absent/") == []


def test_ids_are_silent_where_nothing_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEFLEET_CONFIG", str(tmp_path / "absent.toml"))
    assert operation_ids("") == []
