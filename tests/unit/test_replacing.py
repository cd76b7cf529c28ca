"""Files that are replaced whole."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tilefleet import replacing
from tilefleet.replacing import write_whole

ALIKE = 2000  # bytes of one kind in each version


@pytest.fixture(params=["exchanged", "renamed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "renamed":
        monkeypatch.setattr(replacing, "_renameat2", lambda: None)
    return str(request.param)


def test_it_is_there_with_its_directories_and_nothing_else_is(tmp_path: Path, way: str) -> None:
    path = tmp_path / "some" / "where" / "status.json"
    for data in (b"first", b"", b"a second one", memoryview(b"third")):
        write_whole(path, data)
        assert path.read_bytes() == bytes(data)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux")
def test_here_names_are_exchanged(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    assert not replacing._exchanged(one, other), "there is no other"
    other.write_bytes(b"2")
    assert replacing._exchanged(one, other)
    assert (one.read_bytes(), other.read_bytes()) == (b"2", b"1")


def test_readers_see_one_version_whole(tmp_path: Path, way: str) -> None:
    path, ended = tmp_path / "status.json", threading.Event()
    write_whole(path, b"a" * ALIKE)

    def write(kind: bytes) -> None:
        while not ended.is_set():
            write_whole(path, kind * ALIKE)

    writers = [threading.Thread(target=write, args=(kind,)) for kind in (b"b", b"c")]
    for writer in writers:
        writer.start()
    try:
        seen = {path.read_bytes() for _ in range(3000)}
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    assert len(seen) > 1
    assert {len(data) for data in seen} == {ALIKE}
    assert {len(set(data)) for data in seen} == {1}
    assert list(tmp_path.iterdir()) == [path]


def test_who_is_killed_leaves_one_version_whole(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_whole(path, b"a" * ALIKE)
    program = (
        "import pathlib, sys\nfrom tilefleet.replacing import write_whole\nwhile True:\n"
        f" for kind in (b'b', b'c'): write_whole(pathlib.Path(sys.argv[1]), kind * {ALIKE})"
    )
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", program, str(path)]) as writer:
            before = path.stat().st_ino
            while path.stat().st_ino == before and writer.poll() is None:
                time.sleep(0.01)
            writer.kill()
        data = path.read_bytes()
        assert len(data) == ALIKE
        assert len(set(data)) == 1


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, way: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="file"):
        write_whole(tmp_path / "file" / "below", b"")
    with pytest.raises(IsADirectoryError, match="directory"):
        write_whole(tmp_path / "directory", b"")
    with pytest.raises(ValueError, match="not whole"):
        write_whole(tmp_path / "name#1", b"")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "file"]
    assert (tmp_path / "directory").is_dir()
