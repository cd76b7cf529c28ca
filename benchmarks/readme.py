"""The table of ratios in the project's README, from a result document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.findings import PEERS, Case, Document, largest, named, ratio

BEGIN, END = "<!-- ratios: written by make bench -->\n", "<!-- until here -->\n"
HEADS = ("NumPy: load, `@`, save", "Dask, threads", "Dask, processes", "cubed", "Ray")


def write(document: Document, path: Path) -> None:
    """Replace what stands between the two marks. Raises ValueError when they are not there."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(before + BEGIN + "\n".join(table(document)) + "\n" + END + after, encoding="utf-8")


def table(document: Document) -> Iterator[str]:
    """Our time over each peer's, medians of paired rounds; cases that were not measured are left out."""
    yield "| | " + " | ".join(HEADS) + " |"
    yield "|---" * (len(HEADS) + 1) + "|"
    for name, case in _cases(document):
        if case is not None:
            found = (ratio(case, peer) for peer in PEERS)
            yield f"| {name} | " + " | ".join("" if value is None else _shown(value.median) for value in found) + " |"


def _cases(document: Document) -> Iterator[tuple[str, Case | None]]:
    yield "float64 8192²", named(document, "product-float64", "8192²")
    yield "float32 8192²", named(document, "product-float32", "8192²")
    yield "complex128 4096²", named(document, "product-complex128", "4096²")
    yield "20000×2000 · 2000×20000", largest(document, "product-wide")
    yield "2000×60000 · 60000×2000", largest(document, "product-deep")
    yield "float64 product in S3 (a stand-in, over the wire)", largest(document, "s3")
    yield "int64, digits, 2000²", named(document, "product-int64", "[0, 10) 2000²")
    yield "sum of two float64 8192²", largest(document, "add")
    yield "float64 1024²", named(document, "product-float64", "1024²")


def _shown(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
