"""The files of an embedded deployment."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tilefleet import local_state
from tilefleet.errors import DoesNotFit
from tilefleet.local_state import StateFiles, check_room


@pytest.fixture
def files(tmp_path: Path) -> StateFiles:
    made = StateFiles(tmp_path / "state")
    made.make()
    return made


def test_where_there_is_room_nothing_is_left_of_the_question(files: StateFiles) -> None:
    check_room(files)
    assert list(files.run.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_said_before_anything_starts(
    files: StateFiles, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _data: bytes) -> None:
        path.with_name(path.name + ".new").touch()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local_state, "write_private", full)
    with pytest.raises(DoesNotFit, match=f"the disk that holds {files.root} is full, or its quota"):
        check_room(files)
    assert list(files.run.iterdir()) == []
