"""The table that says which module declares which command is true, so that each is found without loading the others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from coordinator.cli.door import app
from coordinator.cli.families import FAMILIES, declare

LOADED = "import sys; from coordinator.cli.main import run; run(sys.argv[1:]); print(*sorted(sys.modules))"


def declared() -> Iterator[tuple[str, str]]:
    """(module, first word) of every command."""
    declare()
    tree: Any = typer.main.get_command(app)
    for word, command in tree.commands.items():
        for one in getattr(command, "commands", {word: command}).values():
            yield one.callback.__module__.rpartition(".")[2], word


def test_the_table_is_complete() -> None:
    assert {(module, word) for module, words in FAMILIES.items() for word in words} == set(declared())


@pytest.mark.parametrize(
    ("arguments", "is_loaded"),
    [("head nothing.npy", False), ("--json head nothing.npy", False), ("haed nothing.npy", True), ("--help", True)],
)
def test_other_families_are_loaded_only_where_they_are_needed(arguments: str, is_loaded: bool) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments.split()], capture_output=True, text=True, check=True)
    assert ("coordinator.cli.fleet_up" in done.stdout) is is_loaded
    assert "coordinator.cli.data" in done.stdout


def test_a_command_that_submits_loads_no_numpy(tmp_path: Path) -> None:
    """It goes as far as it can without a deployment: inputs are looked at, types promoted, and the output is there already."""
    for name in ("a.npy", "b.npy", "c.npy"):
        np.save(tmp_path / name, np.ones((2, 2)))
    arguments = ["multiply", "a.npy", "b.npy", "-o", "c.npy"]
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "exists already" in done.stderr
    loaded = set(done.stdout.split())
    assert "tilefleet.client" in loaded
    assert not loaded & {
        "aioboto3",
        "numpy",
        "pyarrow",
        "rich",
        "tilefleet.lazy",
        "tilefleet.reading",
        "tilefleet.writing",
        "zarr",
    }
