"""``tilefleet fleet``: the group that the fleet's commands are declared in, and what all of them begin with.

The rule: nothing is made, changed or removed before a person (or ``--yes``) has seen what, and what it costs.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.door import family
from coordinator.cli.session import Session
from tilefleet.errors import BadConfig, BadInput, Cancelled

if TYPE_CHECKING:
    from tilefleet.config import Config

group = family("fleet", "Make the machines of a fleet, look after them, and take them down again.", under="Fleet")

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts, where there is nobody to answer.")]


def fleet_config(session: Session) -> Config:
    """The configuration in force. Raises BadConfig when it names no machines."""
    config = session.config()
    if config.nodes.provider == "none":
        raise BadConfig(
            f"{session.config_source()} describes no machines; name a config file of a fleet with --config, or set "
            'nodes.provider = "ec2" (machines that are made) or "hosts" (machines that you have)'
        )
    return config


def agree(session: Session, question: str, *, is_agreed: bool, expected: str = "yes") -> None:
    """Ask on the terminal, and go on when the answer is ``expected``. Raises Cancelled when it is another, and BadInput when
    nobody can be asked."""
    if is_agreed:
        return
    if session.is_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadInput(f"{question.rstrip('?: ')}: nobody is at a terminal to be asked; say --yes to go on without")
    typer.echo(f"{question} ", nl=False, err=True)
    answer = sys.stdin.readline().strip()
    if answer.lower() not in {expected.lower(), "y" if expected == "yes" else expected.lower()}:
        raise Cancelled("nothing was done")
