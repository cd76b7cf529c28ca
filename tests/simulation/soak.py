"""Many seeds of the hostile world by hand: ``python -m tests.simulation.soak N [FIRST]``; N = 1 replays one seed."""

from __future__ import annotations

import sys
import traceback

from tests.simulation.scenario import hostile


def say(text: str) -> None:
    """On standard output, now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run seeds FIRST to FIRST + N; print those that fail, why, and how to replay them. Exit status 1 when one did."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    failed, n_events = [], 0
    for seed in range(first, first + count):
        try:
            n_events += hostile(seed).n_events
        except Exception:  # noqa: BLE001 - a bug of any kind is what is looked for
            failed.append(seed)
            say(f"seed {seed}: replay it with  python -m tests.simulation.soak 1 {seed}\n{traceback.format_exc()}")
    say(f"{count} seeds from {first}, {n_events} events, {len(failed)} failed: {failed}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
