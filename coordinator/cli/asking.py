"""Asking a person before something is done that cannot be undone, or that costs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from coordinator.cli.session import Session
from tilefleet.errors import BadInput, Cancelled

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts, where there is nobody to answer.")]


def agree(session: Session, question: str, *, is_agreed: bool, expected: str = "yes") -> None:
    """Ask on the terminal, and go on when the answer is ``expected``. Raises Cancelled when it is another, and BadInput when
    nobody can be asked."""
    if is_agreed:
        return
    if session.is_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        asked = question.partition("?")[0]
        raise BadInput(f'nobody is at a terminal to answer "{asked}?"; nothing was done; say --yes to go on without being asked')
    typer.echo(f"{question} ", nl=False, err=True)
    answer = sys.stdin.readline().strip()
    if answer.lower() not in {expected.lower(), "y" if expected == "yes" else expected.lower()}:
        raise Cancelled("nothing was done")
