"""A Python for nodes that have none is taken by its hash, whoever gives it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from coordinator.fleet.setup.interpreter import SOURCES, Source, fetch
from coordinator.fleet.setup.requirements import KNOWN_GOOD
from tilefleet.errors import NotFound, Unreachable

ARCHIVE = b"as if it were a tar.gz"


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    path = tmp_path / "python.tar.gz"
    path.write_bytes(ARCHIVE)
    return path


def test_it_is_fetched_once(archive: Path) -> None:
    source = Source("3.12.15", archive.as_uri(), hashlib.sha256(ARCHIVE).hexdigest())
    first = fetch(source)
    assert first.archive.read_bytes() == ARCHIVE
    assert first.minor == "3.12"
    archive.unlink()
    assert fetch(source) == first


def test_other_bytes_are_refused_and_not_kept(archive: Path) -> None:
    source = Source("3.12.15", archive.as_uri(), "0" * 64)
    for _ in range(2):
        with pytest.raises(NotFound, match=r"is not Python 3.12.15: its SHA-256 is [0-9a-f]{64}, not 0000"):
            fetch(source)


def test_nobody_there_is_said_with_the_place(archive: Path) -> None:
    source = Source("3.12.15", "http://127.0.0.1:9/python.tar.gz", "0" * 64)
    with pytest.raises(Unreachable, match=r"could not be fetched from http://127.0.0.1:9/python.tar.gz: .*refused"):
        fetch(source)


def test_what_is_brought_is_a_version_that_we_know() -> None:
    for architecture, source in SOURCES.items():
        assert source.version.rpartition(".")[0] in KNOWN_GOOD
        assert f"cpython-{source.version}%2B" in source.url
        assert f"-{architecture}-unknown-linux-gnu-" in source.url
        assert len(source.sha256) == 64
