"""Which attempts are so slow that a second one is worth its price.

cubed's rule (cubed/runtime/backup.py, after Dean & Ghemawat's backup tasks, OSDI 2004): once half of a stage is done and
nothing is left to hand out, an attempt that takes three times the median is doubled. The first commit wins. Should the second
one be as slow, there is a third: of ten thousand workers a hundred are slow, and some of what they are too slow with comes to
another of them. To wait for that took a twentieth of a large operation's time.

Where there is no median (a stage of one job, or one of which most attempts hang), an attempt that is far beyond what was
predicted is doubled too, and again after twice that time: no job waits for ever for a worker that lives and does not end it.
"""

from __future__ import annotations

SLOWER_THAN_MEDIAN = 3.0
MOST_DOUBLED = 2  # times, as a job may be larger than its fellows, and then is so everywhere
LEAST_S = 2.0  # below that, a heartbeat's granularity says more than the work
OVERDUE_S = 900.0
OVERDUE_TIMES = 10.0  # of the prediction, which knows nothing of slow disks and of other people's machines


def least_patience_s(median_s: float | None, predicted_s: float, *, is_tail: bool) -> float:
    """No attempt of a stage is doubled that is held for less."""
    overdue_s = overdue_after_s(predicted_s, 0)
    return overdue_s if median_s is None or not is_tail else min(overdue_s, slow_after_s(median_s))


def slow_after_s(median_s: float) -> float:
    """How long an attempt may take while the stage is in its tail."""
    return max(LEAST_S, SLOWER_THAN_MEDIAN * median_s)


def overdue_after_s(predicted_s: float, attempt: int) -> float:
    """How long an attempt may take at any time."""
    return max(OVERDUE_S, OVERDUE_TIMES * predicted_s) * 2.0 ** min(attempt, 10)


def is_straggling(held_s: float, median_s: float | None, *, is_tail: bool) -> bool:
    """True when a second attempt should be sent. ``median_s`` is None while too few jobs are done to tell."""
    return is_tail and median_s is not None and held_s > slow_after_s(median_s)


def is_overdue(held_s: float, predicted_s: float, attempt: int) -> bool:
    """True when an attempt is to be given up hope for, though its worker lives."""
    return held_s > overdue_after_s(predicted_s, attempt)
