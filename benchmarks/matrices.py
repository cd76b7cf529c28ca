"""Inputs: Zarr v3 arrays without compression, in chunks of at most 32 MiB, made once by seed and kept; all peers share them.

The rule: peers read and write the same chunks, and the page cache is warmed alike for each before its time starts.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import places

CHUNK_BYTES = 32 << 20
LEAST_SIDE = 512
PIECE_BYTES = 8 << 20  # of a read that warms the page cache


@dataclass(frozen=True)
class Matrix:
    """What an input is: shape, element type and values (``normal``, or integers uniform in [low, high))."""

    rows: int
    cols: int
    dtype: str = "float64"
    low: int = 0
    high: int = 10
    seed: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return (self.rows, self.cols)

    @property
    def nbytes(self) -> int:
        return self.rows * self.cols * np.dtype(self.dtype).itemsize

    @property
    def chunks(self) -> tuple[int, int]:
        return chunks(self.shape, self.dtype)

    @property
    def name(self) -> str:
        values = f"-{self.low}-{self.high}" if np.dtype(self.dtype).kind == "i" else ""
        return f"{self.dtype}-{self.rows}x{self.cols}{values}-{self.seed}"

    def block(self, rows: slice, cols: slice) -> np.ndarray:
        """The elements of one chunk: the same whatever is asked for before."""
        rng = np.random.default_rng([self.seed, rows.start, cols.start])
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        kind = np.dtype(self.dtype).kind
        if kind == "i":
            return rng.integers(self.low, self.high, shape, dtype=self.dtype)
        if kind == "c":
            return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(self.dtype)
        return rng.standard_normal(shape).astype(self.dtype, copy=False)


def chunks(shape: tuple[int, int], dtype: str) -> tuple[int, int]:
    """Chunks of all matrices in a case: nearly square, of 32 MiB at most, evenly cut, sides a multiple of 16 where cut.

    A long side has an even number of them: who computes chunk by chunk shall have the same work for two cores.
    """
    side = math.isqrt(CHUNK_BYTES // np.dtype(dtype).itemsize)
    rows, cols = (_even(length, min(side, max(LEAST_SIDE, -(-length // 2)))) for length in shape)
    return rows, cols


def _even(length: int, side: int) -> int:
    pieces = -(-length // side)
    pieces += pieces % 2 if pieces > 1 else 0
    even = -(-length // pieces)
    return even if pieces == 1 else -(-even // 16) * 16


def create(store: Any, shape: tuple[int, int], dtype: str) -> Any:
    """A new, empty zarr array in the layout of the bench, at a path or in a zarr store; replaces what is there."""
    import zarr

    return zarr.create_array(
        store, shape=shape, dtype=dtype, chunks=chunks(shape, dtype), compressors=None, overwrite=True, zarr_format=3
    )


def fill(matrix: Matrix, store: Any) -> None:
    """Write a matrix, chunk by chunk."""
    array = create(store, matrix.shape, matrix.dtype)
    height, width = matrix.chunks
    for row in range(0, matrix.rows, height):
        for col in range(0, matrix.cols, width):
            rows, cols = slice(row, min(row + height, matrix.rows)), slice(col, min(col + width, matrix.cols))
            array[rows, cols] = matrix.block(rows, cols)


def path_of(matrix: Matrix) -> Path:
    """The matrix on this machine's disk, made when it is not there yet."""
    path = places.INPUTS / f"{matrix.name}.zarr"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        fill(matrix, unfinished)
        unfinished.rename(path)
    return path


def warm(*paths: Path) -> None:
    """Read all files below, so that the page cache has them."""
    buffer = bytearray(PIECE_BYTES)
    for path in paths:
        for file in [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]:
            with file.open("rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass


def as_dict(matrix: Matrix) -> dict[str, Any]:
    return asdict(matrix)
