"""What is generated from the source is what the source says."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_committed_files_are_what_make_docs_writes() -> None:
    generated = runpy.run_path(str(ROOT / "docs/generate.py"))["generated"]()
    assert len(generated) > 3
    stale = [path for path, text in generated.items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == [], "run make docs"
