"""Whose results are no longer believed: pure counting of those that did not pass their check.

The rule: a worker is doubted when it gave ``MOST_WRONG`` of them within ``WINDOW_S``, and more than twice as many as all others
together. What many give is no machine's fault, but a bug's, or an unlucky bound's: setting machines aside would leave none.
"""

from __future__ import annotations

from tilefleet.errors import WrongResult
from tilefleet.messages import JobFailed

MOST_WRONG = 3
WINDOW_S = 3600.0  # cosmic rays turn a bit in a machine now and then; broken memory does it again and again


class Doubts:
    """By incarnation, the attempts whose results were wrong, and when that was heard."""

    def __init__(self) -> None:
        self._wrong: dict[str, dict[tuple[str, str, int, int], float]] = {}

    def note(self, message: JobFailed, now: float) -> int:
        """Take note of a failed attempt; how many wrong results its worker is doubted for, 0 when it is not."""
        if message.error.code != WrongResult.code:
            return 0
        self._forget(now)
        own = self._wrong.setdefault(message.incarnation, {})
        own.setdefault((message.operation, message.stage, message.index, message.attempt), now)  # a message may come twice
        n_others = sum(len(attempts) for attempts in self._wrong.values()) - len(own)
        return len(own) if len(own) >= MOST_WRONG and len(own) > 2 * n_others else 0

    def _forget(self, now: float) -> None:
        for who, attempts in list(self._wrong.items()):
            self._wrong[who] = {attempt: at for attempt, at in attempts.items() if now - at < WINDOW_S}
            if not self._wrong[who]:
                del self._wrong[who]
