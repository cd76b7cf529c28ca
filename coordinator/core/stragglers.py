"""Which attempts are so slow that a second one is worth its price.

cubed's rule (cubed/runtime/backup.py, after Dean & Ghemawat's backup tasks, OSDI 2004): once half of a stage is done and
nothing is left to hand out, an attempt that takes three times the median is doubled. The first commit wins.
"""

from __future__ import annotations

SLOWER_THAN_MEDIAN = 3.0
LEAST_S = 2.0  # below that, a heartbeat's granularity says more than the work


def is_straggling(held_s: float, median_s: float | None, *, is_tail: bool) -> bool:
    """True when a second attempt should be sent. ``median_s`` is None while too few jobs are done to tell."""
    return is_tail and median_s is not None and held_s > max(LEAST_S, SLOWER_THAN_MEDIAN * median_s)
