"""A worker whose arithmetic is wrong: what its process imports before anything else, when it is started with ``ENVIRONMENT``."""

from __future__ import annotations

from pathlib import Path

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent / "path")}
