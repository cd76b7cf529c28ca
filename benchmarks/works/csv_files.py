"""CSV in and out, 1 GB of float64, beside pyarrow's reader and writer; every element is compared.

The rule: pyarrow's reader uses all cores, as we do; its writer one, so what is compared is MB/s for a core (``cores``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import matrices, places
from benchmarks.checks import WrongResultError, bands
from benchmarks.children import Child
from benchmarks.matrices import Matrix
from benchmarks.peers.opening import open_array
from benchmarks.peers.with_pyarrow import read
from benchmarks.rounds import Case, in_turn, remove
from benchmarks.works import Bench, Outcome, Work


def _csv(bench: Bench) -> Outcome:
    matrix = Matrix(2500 if bench.is_quick else 26000, 2000, seed=3)  # 19.5 bytes for an element
    source = matrices.path_of(matrix)
    file = places.INPUTS / f"{matrix.name}.csv"
    children, _ = bench.pool.only(bench.chosen(("tilefleet", "pyarrow")))
    writer = next(child for child in children if child.name == "pyarrow")
    writer.do("load", str(source))
    if not file.exists():
        writer.do("write", out=str(file))
    about = {"csv_bytes": file.stat().st_size, "shape": matrix.shape}
    reading, writing = (
        Case("in", about | {"cores": {"tilefleet": 2, "pyarrow": 2}}),
        Case("out", about | {"cores": {"tilefleet": 2}}),
    )
    for number in range(bench.rounds):
        for child in in_turn(children, number):
            reading.add(child.name, _read(child, file, source))
            writing.add(child.name, _write(child, source))
    return Outcome([reading, writing])


def _read(child: Child, file: Path, source: Path) -> dict[str, Any]:
    matrices.warm(file)
    if child.name == "pyarrow":
        return child.do("read", str(file))
    out = str(places.OUTPUTS / "from-csv.zarr")
    remove(out)
    run = child.do("convert", str(file), out=out)
    compare(open_array(out), source)
    remove(out)
    return run


def _write(child: Child, source: Path) -> dict[str, Any]:
    out = places.OUTPUTS / "written.csv"
    out.unlink(missing_ok=True)
    matrices.warm(source)
    run = child.do("write" if child.name == "pyarrow" else "convert", str(source), out=str(out))
    table = read(str(out))
    if not np.array_equal(np.column_stack([column.to_numpy() for column in table.columns]), open_array(str(source))[:]):
        raise WrongResultError(f"the CSV that {child.name} wrote differs from the matrix")
    out.unlink()
    return run


def compare(found: Any, source: Path) -> None:
    """Raises WrongResultError unless all elements are equal."""
    expected = open_array(str(source))
    for rows, band in bands(found):
        if not np.array_equal(band, expected[rows, :]):
            raise WrongResultError("the matrix that was read from CSV differs from what was written")


WORKS = (Work("csv", "CSV to Zarr and back, 1 GB of float64, beside pyarrow; every element", _csv),)
