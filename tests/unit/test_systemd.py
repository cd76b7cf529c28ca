"""The units: nothing to complain about, and a tight sandbox."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tilefleet.config import Config
from tilefleet.errors import BadConfig
from tilefleet.sqs import CONNECTIONS

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
UNITS = ("workerd", "coordinator")
MAX_EXPOSURE = 2.0


@pytest.fixture
def analyze() -> str:
    """The command; where it is absent these tests are skipped, but not in continuous integration."""
    command = shutil.which("systemd-analyze")
    if command is None:
        assert "CI" not in os.environ, "systemd-analyze is missing: run make system-packages"
        pytest.skip("systemd-analyze is not on this machine")
    return command


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _verify(analyze: str, unit: str, text: str, directory: Path) -> str:
    """What ``systemd-analyze verify`` has to say; the daemons need not be installed for it."""
    path = directory / f"{unit}.service"
    path.write_text(re.sub(r"/opt/tilefleet/bin/\w+", "/bin/true", text), encoding="utf-8")
    done = _run(analyze, "verify", "--man=no", path)
    return done.stderr + done.stdout + ("" if done.returncode == 0 else f"exit status {done.returncode}")


def _text(unit: str) -> str:
    return (SYSTEMD / f"{unit}.service").read_text(encoding="utf-8")


def _settings(unit: str) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(_text(unit))
    return parser["Service"]


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_say_about_a_unit(unit: str, analyze: str, tmp_path: Path) -> None:
    assert _verify(analyze, unit, _text(unit), tmp_path) == ""


def test_systemd_has_nothing_to_say_about_the_dead_man_switch(analyze: str, tmp_path: Path) -> None:
    for kind in ("service", "timer"):
        text = (SYSTEMD / f"tilefleet-deadman.{kind}").read_text(encoding="utf-8")
        (tmp_path / f"tilefleet-deadman.{kind}").write_text(text, encoding="utf-8")
    done = _run(analyze, "verify", "--man=no", *tmp_path.iterdir())
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_dead_man_switch_is_clean_shell() -> None:
    command = shutil.which("shellcheck")
    if command is None:
        assert "CI" not in os.environ, "shellcheck is missing: run make system-packages"
        pytest.skip("shellcheck is not on this machine")
    done = _run(command, "--shell=sh", "--enable=all", "--exclude=SC2250,SC2310,SC2312", SYSTEMD / "tilefleet-deadman.sh")
    assert done.stdout == ""


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_has_descriptors_for_every_connection_it_may_make(unit: str) -> None:
    """50 to SQS, as many to S3 as tiles are on their way, and what Python has open: a few hundred."""
    assert int(_settings(unit)["LimitNOFILE"]) >= 10 * (CONNECTIONS + 100)


def test_a_misspelt_key_would_be_noticed(analyze: str, tmp_path: Path) -> None:
    wrong = _text("workerd").replace("WatchdogSec=", "WatchdogSecs=")
    assert "WatchdogSecs" in _verify(analyze, "workerd", wrong, tmp_path)


@pytest.mark.parametrize("unit", UNITS)
def test_the_drop_in_for_newer_systemd_verifies_there(unit: str, analyze: str, tmp_path: Path) -> None:
    version = int(_run(analyze, "--version").stdout.split()[1])
    if version < 254:
        pytest.skip(f"RestartSteps needs systemd 254; this is {version}")
    settings = (SYSTEMD / "backoff.conf").read_text(encoding="utf-8").partition("[Service]\n")[2]
    text = _text(unit).replace("[Service]\n", "[Service]\n" + settings)
    assert _verify(analyze, unit, text, tmp_path) == ""


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_low(unit: str, analyze: str) -> None:
    done = _run(
        analyze, "security", "--offline=yes", "--no-pager", f"--threshold={MAX_EXPOSURE * 10:.0f}", SYSTEMD / f"{unit}.service"
    )
    assert done.returncode == 0, done.stdout[-300:]
    overall = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert overall is not None
    assert float(overall[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize(
    ("unit", "drain_s"), [("workerd", Config().worker.drain.s), ("coordinator", Config().coordinator.drain.s)]
)
def test_systemd_waits_longer_than_the_drain_takes(unit: str, drain_s: float) -> None:
    assert float(_settings(unit)["TimeoutStopSec"]) >= drain_s + 15


@pytest.mark.parametrize("unit", UNITS)
def test_exit_statuses_mean_the_same_to_systemd(unit: str) -> None:
    service = _settings(unit)
    assert service["RestartPreventExitStatus"] == str(BadConfig.exit_code)
    assert service["SuccessExitStatus"] == "75"
    assert service["Restart"] == "on-failure"
    assert service["Type"] == "notify"
