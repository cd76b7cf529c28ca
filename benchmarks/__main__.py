"""`python -m benchmarks [WORK ...] [--rounds N] [--quick]`: measure, keep the JSON, print ratios.

The rule: a run of all works writes the results, the report and the plots of the repository; a run of some prints, and writes
only where it is told to.
"""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import places, record
from benchmarks.catalogue import works
from benchmarks.peers import NAMES
from benchmarks.pool import Pool
from benchmarks.works import Bench, Outcome, Work

ROUNDS, QUICK_ROUNDS = 5, 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("works", nargs="*", metavar="WORK", help="names, or patterns such as 'product-*'; all when none is given")
    parser.add_argument("--rounds", type=number, help=f"of every peer in every case (default {ROUNDS}; quick: {QUICK_ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for five minutes in all")
    parser.add_argument("--peers", type=peers, default=(), help="only these, separated by commas")
    parser.add_argument("--sizes", type=sizes, default=(), help="of square products, instead of the work's own: 1024,2048")
    parser.add_argument("--json", type=place, metavar="FILE", help="keep the result here; without WORK it is kept in any case")
    parser.add_argument("--resume", type=kept, metavar="FILE", help="go on with a full run that was stopped, from what it kept")
    parser.add_argument(
        "--draw", type=kept, metavar="FILE", help="measure nothing: write the report and the plots of a result again"
    )
    parser.add_argument("--list", action="store_true", help="say which works there are")
    return parser.parse_args()


def number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def sizes(text: str) -> tuple[int, ...]:
    return tuple(map(number, text.split(",")))


def peers(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no peer {name!r}; there are {', '.join(NAMES)}")
    return names


def place(text: str) -> Path:
    """Where a file can be written, known before an hour is spent."""
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no place for a file; name one in a directory that exists")
    return path


def kept(text: str) -> dict[str, Any]:
    try:
        return record.load(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> int:
    given, known = arguments(), works()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children end, too
    if given.list:
        print("\n".join(f"{name:<20} {work.about}" for name, work in known.items()))
        return 0
    places.make()
    if given.draw:
        publish(given.draw)
        return 0
    chosen = choose(given.works, known)
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    with Pool() as pool:
        bench = Bench(rounds, given.quick, say, pool, given.peers, given.sizes)
        document = record.resume(given.resume, bench) if given.resume else record.begin(bench)
        path = given.json or (None if given.works else record.path_of(document))
        measure(bench, [work for work in chosen if work.name not in document["works"]], document, path)
    if path is not None:
        say(f"Kept in {path}")
    if not given.works:
        publish(document)
    return 0


def publish(document: dict[str, Any]) -> None:
    """Write the report and the plots: of a full run into the repository, README's table too; of a quick one below ``.work``."""
    from benchmarks import readme, report
    from benchmarks.drawing import draw_all

    to = places.WORK if document["is_quick"] else places.HERE
    report.write(document, to / places.REPORT.name, draw_all(document, to / places.PLOTS.name))
    say(f"Written: {to / places.REPORT.name}, and plots beside it")
    if not document["is_quick"]:
        readme.write(document, places.ROOT / "README.md")


def choose(names: list[str], known: dict[str, Work]) -> list[Work]:
    """The works that the patterns name, in their own order. Exits with a sentence for a pattern that names none."""
    for name in names:
        if not fnmatch.filter(known, name):
            raise SystemExit(f"there is no work {name!r}; there are {', '.join(known)}")
    return [work for work in known.values() if not names or any(fnmatch.fnmatch(work.name, name) for name in names)]


def measure(bench: Bench, chosen: list[Work], document: dict[str, Any], path: Path | None) -> None:
    """Run works, one after the other, and keep each; one that fails does not take the others with it."""
    say(f"{document['machine']['cpu']}, {document['machine']['cores']} cores; {document['machine']['blas']}")
    for work in chosen:
        say(f"{work.name}: {work.about}")
        began = time.perf_counter()
        try:
            outcome = work.run(bench)
        except Exception as error:  # noqa: BLE001 - an hour of other measurements must not be lost
            outcome = Outcome(skipped=f"failed: {type(error).__name__}: {error}")
        if outcome.skipped:
            say(f"  not measured: {outcome.skipped}")
        record.add(document, work.name, work.about, outcome, time.perf_counter() - began)
        summarize(document["works"][work.name])
        if path is not None:
            record.save(document, path)


def summarize(work: dict[str, Any]) -> None:
    from benchmarks.statistics import ratios, spread

    for case in work["cases"]:
        ours = [run["s"] for run in case["runs"].get("tilefleet", ())]
        for peer, runs in case["runs"].items():
            times = [run["s"] for run in runs]
            ratio = f"   tilefleet/{peer} {ratios(ours, times)}" if ours and peer != "tilefleet" else ""
            say(f"  = {case['name']}  {peer:<13} {spread(times)} s{ratio}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
