"""Dead letters on a terminal: whatever the message holds, nothing of it is taken for an order."""

from __future__ import annotations

import pytest

from coordinator.cli.dead import body_text, details, listing
from tilefleet.dead_letters import Kept
from tilefleet.errors import printable
from tilefleet.records import DeadLetter

HOSTILE = "\x1b]0;owned\x07\u202eevil\x9b31m\r\nreason"


@pytest.mark.parametrize("text", [HOSTILE, "\ud800", "a\x00b", "\u2028"])
def test_what_a_terminal_would_obey_is_escaped(text: str) -> None:
    for shown in (printable(text), body_text(text), body_text(f'{{"a": "{text.encode("unicode_escape").decode()}"}}')):
        assert all(c.isprintable() or c == "\n" for c in shown)
        shown.encode("utf-8")


def test_a_message_is_shown_whole_and_a_reason_in_the_list_is_cut() -> None:
    kept = Kept("message-ab", DeadLetter(1.8e9, "demo-jobs-dead", HOSTILE * 20, '{"type": "job"}'))
    shown = details(kept)
    assert '"type": "job"' in shown
    assert "message-ab" in shown
    [line] = listing([kept], 1.8e9 + 90).splitlines()
    assert line.endswith("…")
    assert all(c.isprintable() for c in line)


def test_a_very_deep_message_is_shown_as_it_came() -> None:
    assert body_text("[" * 100_000) == "[" * 100_000
