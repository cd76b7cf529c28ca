"""``python -m tests.fuzz.guided DOOR [-max_total_time=60]``: inputs bred by the branches that they reach (atheris, libFuzzer).

atheris has wheels for Linux alone, so it is no dependency of the tests: ``make fuzz-guided`` makes an environment that has it.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["tilefleet", "coordinator"]):
    from tests.fuzz.doors import ROOT, doors
    from tests.fuzz.trial import trouble_with


def main() -> None:
    known = doors()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        raise SystemExit(f"name a door: {', '.join(known)}")
    name = sys.argv.pop(1)
    door, corpus = known[name], ROOT / ".fuzz" / name.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in door.seeds:
        (corpus / sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def one(data: bytes) -> Any:
        trouble = trouble_with(door, data)
        if trouble is not None:
            raise AssertionError(f"{name}: {trouble}")

    atheris.Setup([*sys.argv, f"-artifact_prefix={Path(corpus).parent}/", "-max_len=65536", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
