"""What every command knows: which configuration, whether a program or a person reads the output, and where output goes.

Results go to standard output, everything about the way there to standard error.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tilefleet.client import Client
    from tilefleet.config import Config

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """The options that every command takes, and the two ways to say something."""

    config_path: str | None = None
    is_json: bool = False
    command_line: str = ""

    def config(self) -> Config:
        """The configuration in force. Raises BadConfig."""
        from tilefleet.client import find_config

        return find_config(self.config_path)

    def config_source(self) -> str:
        """Where ``config`` looks, in words."""
        for name, path in (("--config", self.config_path), ("TILEFLEET_CONFIG", os.environ.get("TILEFLEET_CONFIG"))):
            if path:
                return f"{path} ({name})"
        return "./tilefleet.toml" if os.path.exists("tilefleet.toml") else "the embedded default"  # noqa: PTH110  no pathlib just for this

    def client(self) -> Client:
        """A client of the deployment; to be entered with ``async with``."""
        from tilefleet.client import Client

        return Client(self.config())

    def show(self, text: str, document: Any) -> None:
        """The result: ``text`` for people, ``document`` as one JSON document for programs."""
        self.say(json.dumps(document, indent=2, ensure_ascii=False) if self.is_json else text)

    def say(self, text: str) -> None:
        """A line or more of the result."""
        if text:
            print(text, flush=True)  # noqa: T201  the command's own output

    def remark(self, text: str) -> None:
        """A line about the way there, for people only."""
        if not self.is_json:
            print(text, file=sys.stderr, flush=True)  # noqa: T201  the command's own output


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end. Ctrl-C ends the command with 130 and one line."""
    import typer

    try:
        return asyncio.run(coroutine)
    except KeyboardInterrupt:
        typer.echo("tilefleet: interrupted", err=True)
        raise typer.Exit(130) from None


def is_live(stream: Any) -> bool:
    """Whether bars and colours make sense there: a terminal that can move its cursor, and NO_COLOR does not forbid it."""
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def terminal_columns() -> int:
    """Width to lay tables out for; 80 and no more where nobody looks."""
    import shutil

    return shutil.get_terminal_size((80, 24)).columns
