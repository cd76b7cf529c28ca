"""All works in the order in which they run. A module that is not there, or cannot be imported here, is left out."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from benchmarks.works import Work

MODULES = ("products", "small", "s3", "memory", "csv_files", "coursework", "timeline", "coordinator", "scale", "nodes")


def works() -> dict[str, Work]:
    """By name."""
    names = [f"benchmarks.works.{name}" for name in MODULES]
    found = [importlib.import_module(name) for name in names if find_spec(name) is not None]
    return {work.name: work for module in found for work in module.WORKS}
