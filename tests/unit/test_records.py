"""Records: what lies in the store reads back, and what was edited by hand is refused by name."""

from __future__ import annotations

import json
import typing

import pytest

from tests.unit.golden.examples import CONTROL, RECORD, STATUS
from tilefleet.errors import BadInput
from tilefleet.records import ENDED, Control, OperationRecord, OperationStatus, State, from_json, to_json


def test_they_read_back() -> None:
    assert from_json(to_json(RECORD), OperationRecord, "r") == RECORD
    assert from_json(to_json(STATUS), OperationStatus, "s") == STATUS
    assert from_json(to_json(CONTROL), Control, "c") == CONTROL


def test_people_can_read_them() -> None:
    assert to_json(RECORD).startswith(b'{\n "id": "3f9k2m7q0xyz",\n')


@pytest.mark.parametrize("state", typing.get_args(State))
def test_what_has_ended(state: State) -> None:
    assert OperationStatus(id="x", state=state, epoch=1).is_ended == (state in {"done", "failed", "cancelled"})
    assert (state in ENDED) == OperationStatus(id="x", state=state, epoch=1).is_ended


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{}", b"[]", b'{"id": 1}', b"[" * 100_000])
def test_another_object_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"^operations/x/record\.json is not a OperationRecord of tilefleet"):
        from_json(data, OperationRecord, "operations/x/record.json")


@pytest.mark.parametrize("version", [0, 2, "1"])
@pytest.mark.parametrize("example", [RECORD, STATUS, CONTROL], ids=lambda example: type(example).__name__)
def test_an_object_of_another_version_is_refused(example: OperationRecord | OperationStatus | Control, version: object) -> None:
    data = json.dumps(json.loads(to_json(example)) | {"v": version}).encode()
    with pytest.raises(BadInput, match=r"\$\.v"):
        from_json(data, type(example), "it")


def test_a_default_is_left_out() -> None:
    assert b"alpha" not in to_json(OperationRecord(id="x", kind="transpose"))
