"""The same sources are the same release, wherever they are packed from."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from coordinator.fleet.setup.release import Release, contents, pack, packed
from tilefleet.version import __version__


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))


def members(release: Release) -> dict[str, bytes]:
    with zipfile.ZipFile(release.wheel) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_the_same_sources_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = contents()
    first = packed(now)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "another"))
    second = packed(dict(reversed(now.items())))
    assert first.wheel != second.wheel
    assert first.wheel.read_bytes() == second.wheel.read_bytes()
    assert (first.version, first.digest) == (second.version, second.digest)


def test_other_sources_are_another_version() -> None:
    now = contents()
    changed = now | {"workerd/pipeline.py": now["workerd/pipeline.py"] + b"\n"}
    assert packed(changed).version != packed(now).version


def test_the_wheel_says_its_version_everywhere() -> None:
    release = pack()
    inside = members(release)
    about = f"tilefleet-{release.version}.dist-info"
    assert release.version.startswith(f"{__version__.partition('+')[0]}+")
    assert f'__version__ = "{release.version}"'.encode() in inside["tilefleet/version.py"]
    assert f"Version: {release.version}".encode() in inside[f"{about}/METADATA"].splitlines()
    assert release.wheel.name == f"tilefleet-{release.version}-py3-none-any.whl"


def test_every_file_is_in_the_record_with_its_hash() -> None:
    release = pack()
    inside = members(release)
    record = f"tilefleet-{release.version}.dist-info/RECORD"
    rows = {row[0]: row[1:] for row in csv.reader(inside[record].decode().splitlines())}
    assert rows.keys() == inside.keys()
    for name, data in inside.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert rows[name] == (["", ""] if name == record else [f"sha256={digest}", str(len(data))])


def test_it_carries_what_nodes_need_and_no_litter() -> None:
    names = members(pack()).keys()
    assert {
        "workerd/daemon.py", "coordinator/daemon.py", "tilefleet/py.typed", "coordinator/fleet/constraints.txt",
        "coordinator/fleet/systemd/workerd.service", "coordinator/fleet/systemd/tilefleet-deadman.sh",
    } <= names  # fmt: skip
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", "~"))]
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


def test_pip_installs_it_and_it_runs(tmp_path: Path) -> None:
    release = pack()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", f"--target={tmp_path / 'there'}"]
    subprocess.run([*command, release.wheel], check=True, capture_output=True, timeout=60)
    done = _python("-m", "workerd.daemon", "--version", path=tmp_path / "there")
    assert done == f"workerd {release.version}"


def test_what_is_installed_packs_itself(tmp_path: Path) -> None:
    release = pack()
    with zipfile.ZipFile(release.wheel) as wheel:
        wheel.extractall(tmp_path / "there")
    script = "import json; from coordinator.fleet.setup.release import pack; r = pack(); print(json.dumps([r.version, r.digest]))"
    assert json.loads(_python("-c", script, path=tmp_path / "there")) == [release.version, release.digest]


def _python(*arguments: str, path: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=path, timeout=60)
    return done.stdout.strip()
