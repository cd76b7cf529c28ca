"""`python -m benchmarks.compare OLD NEW [--within PERCENT]`: two results side by side.

A table of medians and their ratio, tilefleet's by default, for every case that both have. Exit codes: 0 when nothing is slower
than before by more than PERCENT (default 10), 1 when something is, 2 when the two cannot be compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import record
from benchmarks.findings import Document, runs
from benchmarks.statistics import Spread, short, spread

SAME, SLOWER, INCOMPARABLE = 0, 1, 2
OURS = ("tilefleet", "client", "command", "little memory", "plenty", "scheduler", "client-store")
"""Under these names we are measured; the others are shown with --all, and do not decide."""


class Row(NamedTuple):
    """One peer in one case, before and now."""

    work: str
    case: str
    peer: str
    old: Spread
    new: Spread

    @property
    def ratio(self) -> float:
        return self.new.median / self.old.median

    @property
    def is_ours(self) -> bool:
        return self.peer in OURS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--within", type=float, default=10.0, metavar="PERCENT", help="slower by more is exit code 1 (default 10)"
    )
    parser.add_argument("--all", action="store_true", help="show the other peers, too: how much the machine changed")
    given = parser.parse_args()
    try:
        old, new = (record.load(path) for path in (given.old, given.new))
    except (OSError, ValueError) as error:
        print(f"cannot be compared: {error}", file=sys.stderr)
        return INCOMPARABLE
    rows = list(common(old, new))
    if not any(row.is_ours for row in rows):
        print("cannot be compared: no case of ours is in both", file=sys.stderr)
        return INCOMPARABLE
    show(old, new, [row for row in rows if given.all or row.is_ours])
    return SLOWER if any(row.is_ours and row.ratio > 1 + given.within / 100 for row in rows) else SAME


def common(old: Document, new: Document) -> Iterator[Row]:
    """What both measured."""
    for work, found in new["works"].items():
        before = {case["name"]: case for case in old["works"].get(work, {}).get("cases", ())}
        for case in found["cases"]:
            for peer in case["runs"]:
                was, now = ([run["s"] for run in runs(one, peer)] for one in (before.get(case["name"]), case))
                if was and now:
                    yield Row(work, case["name"], peer, spread(was), spread(now))


def show(old: Document, new: Document, rows: list[Row]) -> None:
    """A table for people, and how the two runs differ in more than the commit."""
    for part in ("cpu", "cores", "blas", "python"):
        if old["machine"][part] != new["machine"][part]:
            print(f"note: {part} was {old['machine'][part]} and is {new['machine'][part]}")
    print(f"{'work':<20} {'case':<36} {'peer':<14} {old['commit']:>24} {new['commit']:>24}   new/old")
    for row in rows:
        print(f"{row.work:<20} {row.case:<36} {row.peer:<14} {row.old!s:>24} {row.new!s:>24}   {short(row.ratio)}")


if __name__ == "__main__":
    sys.exit(main())
