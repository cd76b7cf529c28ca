"""Which module declares which commands: a command loads its own family and no other, as all take a third of a second to load.

The rule: what is not found here is looked for everywhere, as help, completion and mistakes in the command line need it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

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
    "operations": ("list", "show", "watch", "cancel", "verify", "get", "delete"),
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
