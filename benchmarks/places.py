"""Where the bench keeps things: what it makes again on demand lies below ``.work``, what is to be read lies beside it."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = Path(os.environ.get("TILEFLEET_BENCH_WORK", HERE / ".work"))
INPUTS = WORK / "inputs"
OUTPUTS = WORK / "outputs"
LOGS = WORK / "logs"
STATES = WORK / "states"
RESULTS = HERE / "results"
PLOTS = HERE / "plots"
REPORT = HERE / "RESULTS.md"


def make() -> None:
    """Create the directories."""
    for directory in (INPUTS, OUTPUTS, LOGS, STATES, RESULTS, PLOTS):
        directory.mkdir(parents=True, exist_ok=True)
