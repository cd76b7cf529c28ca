"""What a step said when it failed, as a sentence.

Pure. The node's own words are kept; those that we know get what they mean in front.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tilefleet.quantities import format_seconds

SHOWN_LINES = 5
SHOWN_CHARACTERS = 600


def sentence_of(output: str, status: int) -> str:
    """About a script that ended with another status than 0."""
    said = last_words(output.splitlines())
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return f"the node's disk is full: {said}"
    if status in {124, 137, 143}:  # timeout(1), SIGKILL, SIGTERM
        return f"it was ended (status {status}): {said}" if said else f"it was ended from outside (status {status})"
    return said or f"it ended with status {status} and said nothing"


def sentence_of_hung(deadline_s: float, said: Iterable[str]) -> str:
    """About a script that did not end."""
    words = last_words(said)
    return f"it did not end within {format_seconds(deadline_s)}" + (f"; it last said: {words}" if words else ", and said nothing")


def last_words(lines: Iterable[str]) -> str:
    """The last lines that say something; of our own log, what happened and why."""
    shown = [text for line in lines if (text := _plain(line))]
    return "\n".join(shown[-SHOWN_LINES:])[-SHOWN_CHARACTERS:]


def _plain(line: str) -> str:
    if not line.startswith("{"):
        return line.strip()
    try:
        record = json.loads(line)
    except ValueError:
        return line.strip()
    error = record.get("error") or record.get("exception") or ""
    return f"{record.get('event', '')}: {error}".strip(": ") if record.get("event") else line.strip()
