"""What is kept of a run: one JSON document, readable by people, from which the report, the plots and comparisons are made."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import places, surroundings
from benchmarks.works import Bench, Outcome

SCHEMA = 1


def begin(bench: Bench) -> dict[str, Any]:
    """A document without works yet."""
    commit, is_changed = surroundings.commit()
    return {
        "schema": SCHEMA, "date": surroundings.today(), "commit": commit, "is_changed": is_changed, "is_quick": bench.is_quick,
        "rounds": bench.rounds, "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "machine": surroundings.machine(), "versions": surroundings.versions(), "works": {},
    }  # fmt: skip


def resume(document: dict[str, Any], bench: Bench) -> dict[str, Any]:
    """A document to go on with. Exits with a sentence when it is not of this commit, this machine and these rounds."""
    fresh = begin(bench)
    for name in ("commit", "is_changed", "is_quick", "rounds", "machine", "versions"):
        if document[name] != fresh[name]:
            raise SystemExit(f"it has another {name} than this run would have ({document[name]}, {fresh[name]}); begin anew")
    return document


def add(document: dict[str, Any], name: str, about: str, outcome: Outcome, took_s: float) -> None:
    document["works"][name] = {
        "about": about, "took_s": round(took_s, 1), "cases": [asdict(case) for case in outcome.cases],
        "facts": outcome.facts, "skipped": outcome.skipped,
    }  # fmt: skip


def path_of(document: dict[str, Any]) -> Path:
    """Of a full run in the repository, of a quick one below ``.work``."""
    directory = places.WORK if document["is_quick"] else places.RESULTS
    return directory / f"{document['date']}-{document['commit']}.json"


def save(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(rounded(document), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    """A document that was kept. Raises ValueError for what is none, and OSError."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = {}
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no result of this bench of schema {SCHEMA}")
    return document


def rounded(value: Any) -> Any:
    """Floats to six significant digits: nothing here is measured better."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
