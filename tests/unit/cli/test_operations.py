"""The commands that read operations, on a store that was filled by hand: no deployment, no queues."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from coordinator.cli.main import run
from tests.unit.cli.samples import DONE, ID, RECORD, RUNNING, TO_FILE
from tilefleet import layout
from tilefleet.errors import ErrorInfo
from tilefleet.records import OperationRecord, OperationStatus, to_json

NEIGHBOUR = "7k2zzzzzzzzz"
FAILED = "9qd000000000"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("TILEFLEET_CONFIG", raising=False)
    store = tmp_path / "state" / "store"
    failed = OperationStatus(id=FAILED, state="failed", epoch=1, error=ErrorInfo("bad_input", "line 3 has 4 columns"))
    put(store, RECORD, DONE)
    put(store, msgspec.structs.replace(TO_FILE, id=NEIGHBOUR), msgspec.structs.replace(RUNNING, id=NEIGHBOUR))
    put(store, msgspec.structs.replace(TO_FILE, id=FAILED, submitted_at=1.0), failed)
    return store


def put(store: Path, record: OperationRecord, status: OperationStatus) -> None:
    for key, value in ((layout.record(record.id), record), (layout.status(record.id, status.epoch), status)):
        path = store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_json(value))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ID", "STATE", "KIND", "WHAT", "RESULT", "TIME", "AGE"]
    assert {line.split()[0] for line in lines[1:3]} == {ID, NEIGHBOUR}
    assert lines[3].startswith(FAILED)


def test_list_by_kind_and_limit_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--kind", "add", "--json"]) == 0
    operations = json.loads(capsys.readouterr().out)["operations"]
    assert [operation["id"] for operation in operations] == [NEIGHBOUR, FAILED]
    assert run(["list", "-n", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["operations"]) == 1


def test_an_empty_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "other"))
    assert run(["list"]) == 0
    assert capsys.readouterr().out == "no operations yet\n"
    assert not (tmp_path / "other").exists()


def test_show_by_a_unique_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "7k2m"]) == 0
    assert capsys.readouterr().out.startswith(f"id          {ID}\n")
    assert run(["--json", "show", "7k2m"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == ID


def test_a_prefix_of_several_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "7k2"]) == 3
    error = capsys.readouterr().err
    assert ID in error
    assert NEIGHBOUR in error


def test_watching_what_has_ended_ends_as_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", ID]) == 0
    assert "tilefleet get" in capsys.readouterr().out
    assert run(["watch", FAILED]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "tilefleet: line 3 has 4 columns"
    assert run(["watch", ID, "--progress", "none"]) == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_watching_as_json_is_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", ID, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["done"]


def test_cancelling_what_has_ended_changes_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cancel", FAILED]) == 0
    assert capsys.readouterr().out == f"operation {FAILED} had ended already: failed\n"
    assert not (store / layout.cancel(FAILED)).exists()


def test_cancelling_leaves_the_request_in_the_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cancel", NEIGHBOUR]) == 0
    assert capsys.readouterr().out == f"cancelling operation {NEIGHBOUR}\n"
    assert (store / layout.cancel(NEIGHBOUR)).exists()


def test_delete_removes_all_or_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["delete", FAILED, "0000"]) == 4
    assert (store / layout.record(FAILED)).exists()
    assert run(["delete", FAILED, ID]) == 0
    assert capsys.readouterr().out.splitlines() == [f"deleted operation {FAILED}", f"deleted operation {ID}"]
    assert not (store / layout.record(FAILED)).exists()


def test_a_result_that_is_gone_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["get", ID, "c.npy"], ["head", ID], ["info", ID]):
        assert run(arguments) == 4
        assert "removed" in capsys.readouterr().err


def test_what_failed_has_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", FAILED, "c.npy"]) == 3
    assert capsys.readouterr().err == "tilefleet: line 3 has 4 columns\n"
