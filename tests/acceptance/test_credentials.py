"""Credentials that expire in the middle of things, and are renewed by replacing their file while everything runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.deployment import until
from tests.acceptance.fleet import Fleet, fleet, fleet_config
from tests.conftest import Server, unique
from tilefleet.errors import NotAllowed

pytestmark = pytest.mark.thorough

FIRST, SECOND = "ASIAFIRST", "ASIASECOND"


class Lab:
    """A stand-in that takes one access key at a time, and the file that the person who works with it has its keys in."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "credentials"
        self.key = directory / "key"
        self.ready = directory / "ready"

    def accept(self, key: str) -> None:
        """From now on, this one and no other."""
        self._replace(self.key, key)

    def write(self, key: str) -> None:
        """Replace the credentials file, as people do."""
        self._replace(
            self.file, f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s{key}\naws_session_token = t{key}\n"
        )

    def _replace(self, path: Path, text: str) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    (tmp_path / "lab").mkdir()
    made = Lab(tmp_path / "lab")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(made.file))
    made.write(FIRST)
    made.accept(FIRST)
    yield made


@pytest.fixture
def server(lab: Lab) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.acceptance.lab_server", str(lab.ready), str(lab.key)]
    with lab.ready.with_name("log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lab.ready.exists, "the lab's server answers")
            yield Server(lab.ready.read_text(encoding="utf-8"))
        finally:
            process.kill()


@pytest.fixture
def far(lab: Lab, server: Server, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, fleet_config(server, server, server.new_bucket()), "w1") as made:
        yield made


def test_an_operation_outlasts_the_credentials_it_began_with(far: Fleet, lab: Lab) -> None:
    here = far.client
    out = here.user_url("x.zarr")
    operation = here.output("random", "6000x4000", out, "--seed", "5", "--no-wait")
    until(lambda: operation in _lines(far, "w1", "job_done"), "some of its jobs are done")
    lab.accept(SECOND)
    until(lambda: all(str(lab.file) in far.log(name).read_text() for name in ("w1", "coordinator")), "both say it")
    before = _lines(far, "w1", "job_done").count(operation)

    refused = here.run("show", operation)
    assert refused.returncode == NotAllowed.exit_code
    assert f"replace the profile 'default' in {lab.file}" in " ".join(refused.stderr.split())
    assert len(refused.stderr.splitlines()) == 1

    lab.write("ASIAHALFWAY")
    until(lambda: bool(_lines(far, "w1", "credentials_renewed")), "the worker has read the file")
    lab.write(SECOND)
    assert here.run("watch", operation, "--progress", "none").returncode == 0
    for name in ("w1", "coordinator"):
        assert far.daemons[name].poll() is None
        assert _lines(far, name, "credentials_renewed")
    assert not _lines(far, "w1", "job_failed")
    assert before < here.json("show", operation)["totals"]["jobs"], "it was in the middle of it"

    here.output("convert", out, "second.npy")
    here.output("random", "6000x4000", "again.npy", "--seed", "5")
    np.testing.assert_array_equal(np.load(here.directory / "second.npy"), np.load(here.directory / "again.npy"))


def _lines(far: Fleet, name: str, event: str) -> str:
    lines = far.log(name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if f'"{event}"' in line)


@pytest.mark.parametrize("module", ["coordinator", "workerd"])
def test_a_daemon_that_starts_with_expired_credentials_says_so_and_ends(far: Fleet, lab: Lab, module: str) -> None:
    """systemd starts it again: with new credentials it comes up by itself."""
    lab.accept(SECOND)
    far.start(module, "late", *(["--name", unique("late")] if module == "workerd" else []))
    assert far.daemons["late"].wait(timeout=60) == NotAllowed.exit_code
    assert str(lab.file) in far.log("late").read_text()
