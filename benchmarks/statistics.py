"""Medians, spreads and paired ratios: pure.

The rule: a ratio is taken within a round, between runs that followed each other, and the median of those is shown; so slow
drifts of a noisy machine fall out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """Median, least and most of some values."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)}–{short(self.high)})" if self.n > 1 else short(self.median)


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(median(values), min(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours over theirs, round by round; rounds that only one of them finished are left out."""
    return spread([mine / other for mine, other in zip(ours, theirs, strict=False)])


def short(value: float) -> str:
    """Three significant digits, for tables."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.0f}"
