"""Writes the golden files of the current version."""

from pathlib import Path

from tests.unit.golden.examples import EXAMPLES, encoded

for name, example in EXAMPLES.items():
    (Path(__file__).parent / "v1" / f"{name}.json").write_bytes(encoded(example))
