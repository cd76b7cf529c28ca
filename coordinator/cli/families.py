"""Which module declares which commands: a command loads its own family and no other, as all take a third of a second to load.

The rule: what is not found here is looked for everywhere, as help, completion and mistakes in the command line need it.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

FLEET = ("fleet",)
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "compute": ("multiply", "matmul", "add", "subtract", "transpose", "scale"),
    "data": ("random", "convert", "info", "head"),
    "deployment": ("local",),
    "doctor": ("doctor",),
    "fleet_down": FLEET,
    "fleet_gc": FLEET,
    "fleet_power": FLEET,
    "fleet_status": FLEET,
    "fleet_up": FLEET,
    "operations": ("list", "show", "watch", "cancel", "verify", "repair", "get", "delete"),
    "dead": ("dead",),
    "gc": ("gc",),
    "planning": ("plan",),
    "remote": FLEET,
    "settings": ("config", "init", "version"),
}
"""Module → the first words of its commands, in the order in which help lists them."""


def declare(arguments: Sequence[str] = ()) -> None:
    """Declare the commands that these arguments may mean; without any, all."""
    word = next((argument for argument in arguments if not argument.startswith("-")), "")
    chosen = [module for module, words in FAMILIES.items() if word in words]
    for module in chosen or FAMILIES:
        importlib.import_module(f"coordinator.cli.{module}")


def narrowed(app: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """The app with the one command that the first argument names: typer builds all it is given, some milliseconds each.

    As it is when that is no command of its own: a group, an option, a mistake.
    """
    named = [command for command in app.registered_commands if command.name in arguments[:1]]
    if not named:
        return app
    one = copy.copy(app)
    one.registered_commands = named
    return one
