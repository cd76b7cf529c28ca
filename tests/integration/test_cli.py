"""The command as a user has it: real processes, the embedded deployment, pipes, a terminal, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tilefleet.ids import is_operation_id

pytestmark = pytest.mark.timeout(180)

COMMAND = [sys.executable, "-m", "coordinator.cli.main"]
A = np.arange(300 * 200).reshape(300, 200) % 10
B = np.arange(200 * 100).reshape(200, 100) % 7


class Shell:
    """A directory with a deployment of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "TILEFLEET_STATE": str(directory / "state"),
            "TILEFLEET_CONFIG": str(directory / "config.toml"),
            "TERM": "xterm-256color",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *arguments]
        return subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=90, check=False
        )

    def output(self, *arguments: str) -> str:
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("cli"))
    (shell.directory / "config.toml").write_text('[local]\nworkers = 1\nmemory = "600 MiB"\n')
    np.savetxt(shell.directory / "a.csv", A, fmt="%d", delimiter=",")
    np.save(shell.directory / "b.npy", B)
    assert "until" in shell.output("local", "up")
    try:
        yield shell
    finally:
        assert shell.run("local", "down").stdout == "stopped\n"


def test_a_product_to_a_file(shell: Shell) -> None:
    ended = shell.run("multiply", "a.csv", "b.npy", "-o", "c.npy", "--time", "compute,total")
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_array_equal(np.load(shell.directory / "c.npy"), A @ B)
    lines = ended.stdout.splitlines()
    assert lines[0].endswith(": a.csv @ b.npy")
    assert lines[1].split() == ["result", "300", "×", "100", "int64", "in", str(shell.directory / "c.npy")]
    assert [line.split()[0] for line in lines[-3:]] == ["phase", "compute", "total"]
    assert "\x1b" not in ended.stdout + ended.stderr
    assert ended.stderr == ""

    again = shell.run("multiply", "a.csv", "b.npy", "-o", "c.npy")
    assert (again.returncode, again.stdout) == (11, "")
    assert again.stderr.startswith("tilefleet: ")


def test_conversion_to_another_element_type(shell: Shell) -> None:
    numbers = A[:50, :20] * 3.7
    np.savetxt(shell.directory / "floats.csv", numbers, delimiter=",")
    shell.output("convert", "b.npy", "b.zarr", "--dtype", "float32")
    shell.output("convert", "b.zarr", "b16.npy", "--dtype", "int16")
    assert np.load(shell.directory / "b16.npy").dtype == "int16"
    np.testing.assert_array_equal(np.load(shell.directory / "b16.npy"), B)
    refused = shell.run("convert", "floats.csv", "i.npy", "--dtype", "int32")
    assert (refused.returncode, refused.stdout) == (3, "") and "is not an integer" in refused.stderr
    shell.output("convert", "floats.csv", "i.zarr", "--csv-dtype", "float64", "--dtype", "int32")
    assert "correct" in shell.output("verify", "last")
    shell.output("convert", "i.zarr", "i.csv")
    np.testing.assert_array_equal(np.loadtxt(shell.directory / "i.csv", delimiter=","), numbers.astype("int32"))


def test_a_result_that_the_fleet_keeps(shell: Shell) -> None:
    document = json.loads(shell.output("add", "b.npy", "b.npy", "--json"))
    assert document["state"] == "done"
    assert document["result"]["shape"] == [200, 100]
    assert document["expires_at"] > document["finished_at"]
    name = document["id"]
    assert json.loads(shell.output("head", name, "--rows", "1", "--cols", "3", "--json"))["rows"] == [[0, 2, 4]]
    shell.output("get", name, "sum.csv")
    np.testing.assert_array_equal(np.loadtxt(shell.directory / "sum.csv", delimiter=",", dtype=int), B + B)
    assert json.loads(shell.output("verify", name, "--json"))["verdict"]
    shell.output("delete", name)
    assert shell.run("show", name).returncode == 4


def test_no_wait_prints_the_id_and_watch_ends_with_it(shell: Shell) -> None:
    name = shell.output("transpose", "a.csv", "--no-wait")
    assert is_operation_id(name.strip())
    lines = [json.loads(line) for line in shell.output("watch", "last", "--json").splitlines()]
    assert lines[-1]["id"] == name.strip()
    assert lines[-1]["state"] == "done"


def test_random_is_repeated_by_its_seed(shell: Shell) -> None:
    ended = shell.run("random", "40x30", "r1.npy")
    seed = ended.stderr.split()[1]
    shell.output("random", "40x30", "r2.npy", "--seed", seed, "-q")
    first, second = (np.load(shell.directory / name) for name in ("r1.npy", "r2.npy"))
    np.testing.assert_array_equal(first, second)
    assert (first.dtype, first.min(), first.max()) == (np.dtype(np.int64), 0, 9)


def test_compare_numpy_puts_its_times_beside(shell: Shell) -> None:
    document = json.loads(shell.output("multiply", "a.csv", "b.npy", "--compare", "numpy", "--json"))
    assert set(document["numpy_s"]) == {"ingest", "compute", "export", "total"}


def test_ctrl_c_cancels_what_is_waited_for(shell: Shell) -> None:
    np.save(shell.directory / "large.npy", np.ones((2600, 2600), np.int64))
    with subprocess.Popen(
        [*COMMAND, "multiply", "large.npy", "large.npy", "-o", "never.npy", "--progress", "full"],
        cwd=shell.directory, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    name = first.split()[1].rstrip(":")
    assert f"tilefleet: interrupted; cancelling operation {name} (Ctrl-C again leaves at once)\n" in error
    assert "Traceback" not in error
    assert json.loads(shell.output("show", name, "--json"))["state"] == "cancelled"
    assert not (shell.directory / "never.npy").exists()


def test_on_a_terminal_there_are_bars_and_they_go_away(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "multiply", "a.csv", "b.npy", "--progress", "full"],
        cwd=shell.directory, env=shell.environment, stdout=subprocess.PIPE, stderr=theirs, text=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        drawn = _drained(ours)
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 0
    assert "━" in drawn
    assert "\x1b[?25l" in drawn  # the cursor is hidden,
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")  # and shown again
    assert "\x1b" not in output


def _drained(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode(errors="replace")
