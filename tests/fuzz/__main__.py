"""``python -m tests.fuzz --seconds 600``: mutated inputs at every door, on all cores; a bad one is printed with its seed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import count

from tests.fuzz.doors import doors
from tests.fuzz.trial import Trouble, tried

BATCH = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition(":")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--door", choices=tuple(doors()), action="append", help="only this one; may be said again")
    parser.add_argument("--first", type=int, default=int(time.time()) * 1000, help="the first seed; each input has its own")
    parser.add_argument("--count", type=int, help="so many inputs for each door, however long they take")
    given = parser.parse_args()
    names = given.door or list(doors())
    n_tried, troubles, batch = 0, [], min(BATCH, given.count or BATCH)
    deadline = time.monotonic() + given.seconds
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number in count():
            is_over = number * batch >= given.count if given.count is not None else time.monotonic() >= deadline
            if is_over:
                break
            first = given.first + number * batch
            for done in as_completed([pool.submit(tried, name, first, batch) for name in names]):
                found = done.result()
                n_tried += found.n_inputs
                troubles += found.troubles
    for trouble in troubles[:20]:
        _say(trouble)
    sys.stdout.write(f"{n_tried:,} inputs at {len(names)} doors from seed {given.first}: {len(troubles)} in trouble\n")
    return 1 if troubles else 0


def _say(trouble: Trouble) -> None:
    sys.stderr.write(
        f"door {trouble.door!r}, seed {trouble.seed}: {trouble.what}\n  input {trouble.data[:120]!r}\n"
        f"  again: python -m tests.fuzz --door {trouble.door!r} --first {trouble.seed} --count 1\n"
    )


if __name__ == "__main__":
    sys.exit(main())
