"""The dead-man switch: the real script, under sh, with the machine's uptime and the switch itself played by files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "systemd/tilefleet-deadman.sh"
MINUTE = 60


class Node:
    """A machine that boots, runs, and is heard from; ``look`` is what the timer does each minute."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("run", "state", "tilefleet"):
            (directory / name).mkdir()
        self.heard_file = directory / "tilefleet/heard"
        self.uptime_s = 0
        self.boots = 0
        self.said = ""
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.uptime_s = MINUTE
        shutil.rmtree(self.directory / "run")
        (self.directory / "run").mkdir()

    def hear(self, mtime: float | None = None) -> None:
        """workerd touches its file; every touch has a time of its own."""
        self.heard_file.touch()
        at = 1_800_000_000 + self.boots * 100_000 + self.uptime_s if mtime is None else mtime
        os.utime(self.heard_file, (at, at))

    def look(self, dead_man_s: int = 0, lifetime_s: int = 0) -> list[str]:
        """Run the script; how the machine was told to power off, if it was."""
        off = self.directory / "off"
        off.unlink(missing_ok=True)
        (self.directory / "uptime").write_text(f"{self.uptime_s}.25 99.0\n")
        (self.directory / "poweroff").write_text(f'#!/bin/sh\necho "off $*" >>{off}\n')
        (self.directory / "poweroff").chmod(0o755)
        done = subprocess.run(
            ["/bin/sh", SCRIPT], capture_output=True, text=True, timeout=20, check=True,
            env={
                "PATH": os.environ["PATH"], "HEARD": str(self.heard_file), "DEAD_MAN_S": str(dead_man_s),
                "LIFETIME_S": str(lifetime_s), "RUNTIME_DIRECTORY": str(self.directory / "run"),
                "STATE_DIRECTORY": str(self.directory / "state"), "UPTIME_FILE": str(self.directory / "uptime"),
                "POWEROFF": str(self.directory / "poweroff"),
            },
        )  # fmt: skip
        assert done.stderr == ""
        self.said = done.stdout
        return off.read_text().split("\n")[:-1] if off.exists() else []

    def run(self, seconds: int, *, is_heard: bool = False, dead_man_s: int = 0, lifetime_s: int = 0) -> int | None:
        """Let time pass, minute by minute; after how many seconds the machine powered itself off, if it did."""
        for passed in range(0, seconds, MINUTE):
            if is_heard:
                self.hear()
            if self.look(dead_man_s, lifetime_s):
                return passed
            self.uptime_s += MINUTE
        return None


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_it_powers_off_when_nobody_was_ever_heard(node: Node) -> None:
    assert node.run(3600, dead_man_s=1800) == 1860
    assert node.said == "<2>powering off: no coordinator was heard for 1860 s, the limit is 1800 s\n"


def test_it_stays_as_long_as_a_coordinator_is_heard(node: Node) -> None:
    assert node.run(3 * 3600, is_heard=True, dead_man_s=600) is None
    assert node.said == ""
    assert node.run(3600, dead_man_s=600) == 660 - MINUTE, "counted from the last sign of life, a minute ago"


def test_it_says_so_minutes_before(node: Node) -> None:
    node.run(1500, dead_man_s=1800)
    assert node.said == ""
    node.run(MINUTE, dead_man_s=1800)
    assert node.said == ("<4>this machine powers itself off in 300 s: no coordinator was heard for 1500 s, the limit is 1800 s\n")


def test_zero_means_never(node: Node) -> None:
    assert node.run(48 * 3600 // 20) is None
    assert node.said == ""


def test_a_lifetime_is_over_whoever_is_heard(node: Node) -> None:
    assert node.run(7200, is_heard=True, dead_man_s=600, lifetime_s=3600) == 3660
    assert "it has been running for 3660 s, the limit is 3600 s" in node.said


def test_running_time_adds_up_over_restarts_and_silence_does_not(node: Node) -> None:
    for _ in range(3):
        assert node.run(1200, dead_man_s=1800, lifetime_s=4000) is None
        node.boot()
    assert node.run(1200, dead_man_s=1800, lifetime_s=4000) is not None
    assert "it has been running for" in node.said


def test_a_machine_that_has_been_up_for_long_is_counted_from_now(node: Node) -> None:
    """The switch is installed on a host that ran before: neither limit is over at once."""
    node.uptime_s = 100 * 86400
    assert node.run(1800, dead_man_s=1800, lifetime_s=86400) is None
    assert node.run(3600, dead_man_s=1800, lifetime_s=86400) == MINUTE


@pytest.mark.parametrize("jump_s", [-86_400 * 365, 86_400 * 365])
def test_a_clock_that_is_set_changes_nothing(node: Node, jump_s: int) -> None:
    node.run(600, is_heard=True, dead_man_s=900)
    node.hear(1_800_000_000 + jump_s)
    assert node.run(840, dead_man_s=900) is None
    assert node.run(600, dead_man_s=900) == 2 * MINUTE, "a time far off keeps it no longer either"


def test_ten_minutes_later_it_is_told_with_force(node: Node) -> None:
    node.run(1800, dead_man_s=600)
    assert node.look(dead_man_s=600) == ["off "]
    node.uptime_s += 600
    assert node.look(dead_man_s=600) == ["off --force"]


def test_state_that_was_cut_short_is_begun_anew(node: Node) -> None:
    node.run(300, dead_man_s=600, lifetime_s=6000)
    (node.directory / "state/ran").write_text("")
    (node.directory / "run/heard").write_text("")
    assert node.run(1200, dead_man_s=600, lifetime_s=6000) == 660


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may mount")
def test_a_full_disk_does_not_keep_it_from_working(node: Node) -> None:
    state = node.directory / "state"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", state], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        (state / "full").write_bytes(b"x" * 4096)
        assert node.run(1200, dead_man_s=600, lifetime_s=6000) == 660
        assert f"<4>cannot write {state}/ran" in node.said
    finally:
        subprocess.run(["umount", state], check=True)
