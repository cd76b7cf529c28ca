"""``tilefleet dead``: messages that came to nothing, what they were, and what to do with them.

The rule: what is printed of a message is escaped, as anybody who may send to the queue chose its text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.asking import YesOption, agree
from coordinator.cli.door import command, family
from coordinator.cli.render import age_text, count_text, table, when_text
from coordinator.cli.session import Session, run
from tilefleet.errors import printable

if TYPE_CHECKING:
    from tilefleet.client import Client
    from tilefleet.dead_letters import Kept

REASON_CHARACTERS = 90  # in the list; "dead show" has all

group = family("dead", "Messages that came to nothing: look at them, send them again, remove them.", under="Operations")

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[LETTER...]", help="Names as in the list, or unambiguous beginnings of them.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@command(
    "list", of=group,
    examples=(("tilefleet dead list", "what came to nothing, the newest first"), ("tilefleet dead list --json", "for a program")),
)  # fmt: skip
def list_letters(session: Session) -> None:
    """Messages that were delivered too often, or that nobody could read. Starts nothing."""
    found = run(_chosen(session, None))
    session.show(listing(found, time.time()) if found else "no dead letters", {"letters": [document(one) for one in found]})


@command("show", of=group, examples=(("tilefleet dead show message-3f", "by the beginning of its name: reason, message"),))
def show(session: Session, letter: Annotated[str, typer.Argument(metavar="LETTER", help="Its name, or a beginning.")]) -> None:
    """Everything that is known of a dead letter, with the message itself. Starts nothing."""
    (found,) = run(_chosen(session, [letter]))
    session.show(details(found), document(found))


@command(
    "redrive", of=group,
    examples=(("tilefleet dead redrive message-3f", "into the queue it came from: after an upgrade that can read it, say"),),
)  # fmt: skip
def redrive(session: Session, letters: Names = None, every: AllOption = False) -> None:
    """Send messages to the queue they came from, once more. A job whose operation has ended is refused: nobody waits for it."""
    from tilefleet.dead_letters import redrive as send

    _name_some(letters, is_all=every)
    found = run(_chosen(session, letters or None, lambda client, chosen: send(client.session, chosen)))
    session.show(f"sent {count_text(len(found), 'message')} again", {"redriven": [one.name for one in found]})


@command(
    "purge", of=group,
    examples=(
        ("tilefleet dead purge --all", "remove all of them, when you say so"),
        ("tilefleet dead purge message-3f --yes", "one of them, without being asked"),
    ),
)  # fmt: skip
def purge(session: Session, letters: Names = None, every: AllOption = False, yes: YesOption = False) -> None:
    """Remove dead letters. The coordinator keeps the newest 1000 by itself."""
    from tilefleet.dead_letters import purge as remove

    _name_some(letters, is_all=every)
    found = run(_chosen(session, letters or None))
    if found:
        agree(session, f"Remove {count_text(len(found), 'dead letter')}? [yes/no]", is_agreed=yes)
    run(_chosen(session, [one.name for one in found], lambda client, chosen: remove(client.session.store, chosen)))
    session.show(f"removed {count_text(len(found), 'dead letter')}", {"purged": [one.name for one in found]})


def _name_some(letters: list[str] | None, *, is_all: bool) -> None:
    if bool(letters) == is_all:
        raise typer.BadParameter("name dead letters, or give --all")


async def _chosen(
    session: Session, names: list[str] | None, do: Callable[[Client, list[Kept]], Awaitable[None]] | None = None
) -> list[Kept]:
    """The letters of these names (None: all), after ``do`` was done with them."""
    from tilefleet.dead_letters import find, letters

    async with session.client() as client:
        store = client.session.store
        found = await (letters(store) if names is None else find(store, names))
        if do is not None:
            await do(client, found)
        return found


def listing(found: list[Kept], now_s: float) -> str:
    """For people."""
    rows = [
        (one.name, age_text(one.letter.at, now_s), one.letter.operation or "–", _shortened(printable(one.letter.reason)))
        for one in found
    ]
    return table(rows, right=(1,))


def details(one: Kept) -> str:
    """For people."""
    letter = one.letter
    rows = [
        ("letter", one.name), ("when", when_text(letter.at)), ("queue", letter.queue),
        ("operation", letter.operation or "–"), ("reason", letter.reason),
    ]  # fmt: skip
    return f"{table(rows)}\n\n{body_text(letter.body)}"


def document(one: Kept) -> dict[str, Any]:
    """For programs."""
    letter = one.letter
    return {
        "name": one.name, "at": letter.at, "queue": letter.queue, "operation": letter.operation or None,
        "reason": letter.reason, "body": letter.body,
    }  # fmt: skip


def body_text(body: str) -> str:
    """A message as a person can look at it: JSON indented, anything else as it came, in ASCII with escapes."""
    try:
        return json.dumps(json.loads(body), indent=2)
    except (ValueError, RecursionError):
        return printable(body)


def _shortened(text: str) -> str:
    return text if len(text) <= REASON_CHARACTERS else f"{text[: REASON_CHARACTERS - 1]}…"
