"""How a command line ends: sentence, stream, exit code. Real processes where the process is the point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.cli.main import run

COMMAND = [sys.executable, "-m", "coordinator.cli.main"]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("TILEFLEET_CONFIG", raising=False)


def tilefleet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["info", "absent.npy"], 4, "absent.npy"),
        (["head", "notes.txt"], 4, "there is no"),
        (["info", "ftp://host/a.npy"], 3, "s3://bucket/key"),
        (["multiply", "absent.npy", "absent.npy"], 4, "absent.npy"),
        (["show", "0000"], 4, "operation"),
        (["show", "???"], 3, "not an operation id"),
        (["show", "last"], 4, ""),
        (["get", "0000", "x.npy"], 4, "operation"),
        (["delete", "0000"], 4, "operation"),
        (["random", "2000", "x.npy"], 3, "write rows and columns"),
        (["random", "2x2", "x.npy", "--dtype", "string"], 3, "--dtype"),
        (["multiply", "a.npy", "b.npy", "--time", "cpu"], 3, "no phase 'cpu'"),
        (["--config", "absent.toml", "list"], 10, "absent.toml"),
        (["list", "--config", "absent.toml"], 10, "absent.toml"),
    ],
)
def test_bad_input_is_one_sentence_and_its_exit_code(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tilefleet: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["multiply", "a.npy"],
        ["multiply", "a.npy", "b.npy", "--colour"],
        ["multiply", "a.npy", "b.npy", "--progress", "loud"],
        ["nonsense"],
        ["verify"],
        ["verify", "7k2", "--all"],
        ["init", "--local", "--hosts"],
        ["random", "2x2", "x.npy", "--seed", "-1"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Usage: tilefleet" in capsys.readouterr().err


def test_reading_starts_nothing_and_makes_nothing(tmp_path: Path) -> None:
    run(["list"])
    run(["show", "last"])
    run(["local", "status"])
    assert not list((tmp_path / "state").rglob("*")) or not (tmp_path / "state" / "run").exists()


def test_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "absent.npy", "--json"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    error = json.loads(captured.err)["error"]
    assert error["code"] == "not_found"
    assert "absent.npy" in error["sentence"]


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "absent.npy", "--debug"]) == 4
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.splitlines()[-1].startswith("tilefleet: ")


def test_a_bug_is_one_sentence_that_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tilefleet import client

    def broken(path: str | None) -> None:
        raise ZeroDivisionError(f"with {path}")

    monkeypatch.setattr(client, "find_config", broken)
    assert run(["list"]) == 1
    assert capsys.readouterr().err == (
        "tilefleet: something went wrong inside tilefleet: ZeroDivisionError: with None; run it again with --debug to see where\n"
    )


def test_the_process_ends_with_the_exit_code() -> None:
    ended = tilefleet("info", "absent.npy")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr.startswith("tilefleet: there is no ")


def test_no_escape_codes_on_a_pipe() -> None:
    for arguments in (["--help"], ["multiply", "--help"], ["list"], ["info", "absent.npy"], ["nonsense"]):
        ended = tilefleet(*arguments, TERM="xterm-256color")
        assert "\x1b" not in ended.stdout + ended.stderr
        assert "─" not in ended.stdout + ended.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen([*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        process.wait(timeout=60)
    assert error == b""


def test_warnings_of_ours_are_a_sentence_and_those_of_libraries_are_not_shown(tmp_path: Path) -> None:
    program = """
import sys, warnings
from coordinator.cli import door, main
from tilefleet.session import DeliveryWarning

@door.command("warn")
def warn(session):
    "Warns."
    warnings.warn("the coordinator could not be told", DeliveryWarning, stacklevel=1)
    warnings.warn("a library's business", UserWarning, stacklevel=1)

sys.argv = ["tilefleet", "warn"]
main.main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "tilefleet: the coordinator could not be told\n")


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["local", "status"]])
def test_start_up_does_not_import_what_is_slow(arguments: list[str]) -> None:
    program = (
        "import sys; from coordinator.cli.main import run; code = run(sys.argv[1:]); "
        "slow = ('aioboto3', 'boto3', 'zarr', 'pyarrow', 'scipy', 'rich'); "
        "print([name for name in slow if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == "[]\n"
