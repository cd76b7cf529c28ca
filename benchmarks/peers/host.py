"""The process of one peer: `python -m benchmarks.peers.host NAME OPTIONS`, one JSON line in, one out.

The rule: the clock runs around ``do`` alone. Standard output belongs to the runner; what peers print goes to the log.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from typing import IO, Any

from benchmarks.peers import NAMES
from benchmarks.peers.contract import Peer, Step


def main(name: str, options: dict[str, Any]) -> None:
    """Answer lines until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = importlib.import_module(f"benchmarks.peers.{NAMES[name]}")
    peer: Peer = module.make(name, options)
    peer.warm()
    answer(answers, {"processes": peer.processes()})
    try:
        for line in sys.stdin:
            answer(answers, attempt(peer, Step(**json.loads(line))))
    finally:
        peer.close()


def attempt(peer: Peer, step: Step) -> dict[str, Any]:
    """Time one step."""
    gc.collect()
    began = time.perf_counter()
    try:
        told = peer.do(step)
    except Exception as error:  # noqa: BLE001 - a peer that fails is a result
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return {"s": time.perf_counter() - began, "parts_s": told.parts_s, "facts": told.facts}


def answer(stream: IO[str], document: dict[str, Any]) -> None:
    stream.write(json.dumps(document) + "\n")
    stream.flush()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
