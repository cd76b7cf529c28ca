"""From the facts of parallel scans of a CSV to where each band of rows lies: pure index arithmetic.

A row belongs to the piece of bytes in which its line begins. A scan of bytes [byte0, byte1) counts the rows of each of its
pieces, which are ``piece_bytes`` long but for the last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from tilefleet.errors import BadInput
from tilefleet.facts import CsvFacts
from tilefleet.formats.csv import widest
from tilefleet.matrix import ceil_div


class Band(NamedTuple):
    """Where rows lie: of the lines that begin in bytes [byte0, byte1) the first ``skip_rows`` are not among them."""

    byte0: int
    byte1: int
    skip_rows: int


def n_pieces(byte0: int, byte1: int, piece_bytes: int) -> int:
    """How many pieces a scan of [byte0, byte1) has."""
    return ceil_div(byte1 - byte0, piece_bytes)


def combine(facts: Sequence[CsvFacts], where: str) -> tuple[tuple[int, int], str]:
    """((rows, cols), dtype) of a whole file from the facts of its scans, in order.

    Raises BadInput, naming ``where``, when scans found different numbers of columns, or no row at all.
    """
    rows, cols = 0, 0
    for fact in facts:
        if fact.cols and cols and fact.cols != cols:
            raise BadInput(f"{where}, row {rows + 1}: has {fact.cols} fields where the rows before have {cols}")
        cols = cols or fact.cols
        rows += sum(fact.rows)
    if not rows:
        raise BadInput(f"{where} holds no numbers, only blank lines")
    return (rows, cols), widest(fact.dtype for fact in facts)


class CsvIndex:
    """Rows of a file by the pieces in which they begin; ``ranges`` are those of the scans whose ``facts`` are given."""

    def __init__(self, facts: Sequence[CsvFacts], ranges: Sequence[tuple[int, int]], piece_bytes: int) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for byte0, byte1 in ranges:
            starts = range(byte0, byte1, piece_bytes)
            self._starts += starts
            self._ends += [min(start + piece_bytes, byte1) for start in starts]
        counts = [count for fact in facts for count in fact.rows]
        if len(counts) != len(self._starts):
            raise ValueError(f"{len(counts)} counts for {len(self._starts)} pieces")
        self._first_rows = list(accumulate(counts, initial=0))

    @property
    def rows(self) -> int:
        return self._first_rows[-1]

    def band(self, row0: int, row1: int) -> Band:
        """Where rows [row0, row1) lie; there must be at least one."""
        if not 0 <= row0 < row1 <= self.rows:
            raise ValueError(f"no rows {row0} to {row1} in {self.rows}")
        first, last = self._piece_of(row0), self._piece_of(row1 - 1)
        return Band(self._starts[first], self._ends[last], row0 - self._first_rows[first])

    def _piece_of(self, row: int) -> int:
        return bisect_right(self._first_rows, row) - 1
