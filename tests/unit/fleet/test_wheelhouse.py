"""What nodes get: exactly what they need, by its hash; or a sentence. With pip itself, and an index of wheels made here."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from coordinator.fleet.setup import pip, wheelhouse
from coordinator.fleet.setup.interpreter import Source
from coordinator.fleet.setup.release import pack
from coordinator.fleet.setup.requirements import Target
from tilefleet.errors import NotFound, Unreachable

TARGET = Target("3.12", "aarch64")  # whatever runs the tests, some of it differs


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes for everything there is."""
    directory = tmp_path / "index"
    directory.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return directory


def add(index: Path, name: str, *requires: str, tag: str = "py3-none-any") -> str:
    """A wheel of version 1.0; its SHA-256."""
    path, about = index / f"{name}-1.0-{tag}.whl", f"{name}-1.0.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0", *(f"Requires-Dist: {line}" for line in requires)]
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{about}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_needed_is_followed_to_its_end(index: Path) -> None:
    root = add(index, "root", "native", "old; python_version < '3.12'", "plus[more]")
    native = add(index, "native", tag="cp312-cp312-manylinux_2_17_aarch64")
    add(index, "native", tag="cp312-cp312-manylinux_2_17_x86_64")
    plus = add(index, "plus", "extra_one; extra == 'more'", "extra_two; extra == 'others'")
    extra = add(index, "extra_one", "root")
    known = dict.fromkeys(("root", "native", "plus", "extra-one", "extra-two", "old"), "1.0")
    assert wheelhouse.requirements_of(TARGET, ["root"], known).splitlines() == [
        f"extra-one==1.0 --hash=sha256:{extra}",
        f"native==1.0 --hash=sha256:{native}",
        f"plus==1.0 --hash=sha256:{plus}",
        f"root==1.0 --hash=sha256:{root}",
    ]


def test_a_wheel_that_is_not_what_was_announced_is_refused(index: Path, tmp_path: Path) -> None:
    add(index, "root")
    with pytest.raises(NotFound, match="gives another file than it announced"):
        pip.download(f"root==1.0 --hash=sha256:{'0' * 64}\n", TARGET, tmp_path)


def test_no_wheel_for_the_node_is_said_with_its_kind(index: Path) -> None:
    add(index, "native", tag="cp312-cp312-manylinux_2_17_x86_64")
    with pytest.raises(NotFound, match=r"no wheel of native==1.0 for Python 3.12 on aarch64"):
        pip.resolved(["native==1.0"], TARGET)


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unreachable, match="the package index cannot be reached from here"):
        pip.resolved(["root==1.0"], TARGET)


async def test_an_interpreter_that_cannot_be_had_is_not_waited_for_by_each_node(tmp_path: Path) -> None:
    nowhere = Source("3.12.0", (tmp_path / "python.tar.gz").as_uri(), "0" * 64)
    artefacts = wheelhouse.Artefacts(pack(), interpreters={"x86_64": nowhere})
    with pytest.raises(Unreachable, match="could not be fetched") as first:
        await artefacts.interpreter("x86_64")
    (tmp_path / "python.tar.gz").write_bytes(b"there now, and too late for this set-up")
    with pytest.raises(Unreachable) as second:
        await artefacts.interpreter("x86_64")
    assert second.value is first.value
