"""The coursework's method beside ours and NumPy's: digits 0–9, as in its table, for as long as it ends in reasonable time."""

from __future__ import annotations

from benchmarks.children import Child, PeerFailedError
from benchmarks.rounds import Case, measure
from benchmarks.standin import sqs
from benchmarks.works import Bench, Outcome, Work
from benchmarks.works.products import product

PEERS = ("tilefleet", "numpy")
LONGEST_S = 60.0  # where a product took longer, the next size is left out


def _coursework(bench: Bench) -> Outcome:
    sizes = bench.sizes or ((200, 400) if bench.is_quick else (200, 400, 600, 1000))
    children, failed = bench.pool.only(bench.chosen(PEERS))
    cases: list[Case] = []
    with sqs() as variables:
        try:
            with Child("coursework", None, variables) as theirs:
                for n in sizes:
                    if cases and max(cases[-1].times("coursework"), default=0.0) > LONGEST_S:
                        break
                    cases.append(measure(product(n, n, n, "int64"), [*children, theirs], bench.rounds, bench.say))
        except PeerFailedError as error:
            return Outcome(cases, skipped=str(error))
    for case in cases:
        case.failed = failed | case.failed
    return Outcome(cases)


WORKS = (Work("coursework", "int64 digits by tiles as JSON in SQS messages, on a stand-in; bit-equal to NumPy", _coursework),)
