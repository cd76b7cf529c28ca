from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import tilefleet
from coordinator.cli import reference
from coordinator.cli.door import app
from coordinator.cli.help import EXIT_CODES
from coordinator.cli.main import run
from tilefleet import errors


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


ALL = dict(_commands(typer.main.get_command(app)))
FRONT = {
    "multiply", "matmul", "add", "subtract", "transpose", "scale", "random", "convert", "info", "head", "list", "show", "watch",
    "cancel", "verify", "get", "delete", "plan", "local", "config", "init", "version",
}  # fmt: skip


def test_the_front_door_has_what_was_promised() -> None:
    assert {path[0] for path in ALL} >= FRONT
    assert {path[1] for path in ALL if path[0] == "local"} == {"up", "status", "down"}


def test_where_what_follows_is_verbatim_options_are_shown_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "ssh", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: tilefleet fleet ssh [OPTIONS] NODE [CMD...]\n")


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_help_has_a_text_examples_and_a_text_for_each_option(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    if "matmul" not in path and path != ("local", "status"):
        assert "\nExamples:\n  tilefleet " in text
    assert text.startswith(f"Usage: tilefleet {' '.join(path)}")
    assert "\x1b" not in text
    command = ALL[path]
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_examples_parse(path: tuple[str, ...]) -> None:
    """An example in a help that does not parse is a lie."""
    import shlex

    for line in (ALL[path].epilog or "").splitlines():
        words = shlex.split(line.split("\t")[0])
        assert words[: len(path) + 1] == ["tilefleet", *path] or "matmul" in path
        ALL[path].make_context(path[-1], words[len(path) + 1 :])


def test_the_front_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert "   3  bad input" in text
    assert " 130  interrupted" in text


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tilefleet {tilefleet.__version__}\n"


def test_the_usage_beside_a_mistake_is_that_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["multiply", "a.npy"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "Usage: tilefleet multiply A B [OPTIONS]"


def test_exit_codes_are_those_of_the_errors() -> None:
    codes = {
        value.exit_code for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.TilefleetError)
    }
    assert codes | {0, 2, 14, 130} == {code for code, _ in EXIT_CODES}  # 14: what doctor found is its result, not an error


def test_the_reference_is_up_to_date() -> None:
    """Mend it with: python -m coordinator.cli.reference > docs/reference/cli.md"""
    committed = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
    assert committed.read_text(encoding="utf-8") == reference.text()
