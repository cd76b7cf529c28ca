"""Jobs run directly, against a directory store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tilefleet.config import StoreSection
from tilefleet.ids import ALPHABET
from tilefleet.matrix import MatrixRef, Operand, Rect
from tilefleet.messages import Job, Work
from tilefleet.reading import Reader
from tilefleet.store import Store, Stores, file_url
from tilefleet.writing import write_tiles
from workerd.compute import Compute
from workerd.context import Context, Outcome, Surroundings
from workerd.jobs import dispatch
from workerd.spares import Spares

OPERATION = ALPHABET[:12]


class Bench:
    """A store, and a worker's surroundings without the worker."""

    def __init__(self, directory: Path) -> None:
        (directory / "store").mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.url = file_url(directory / "store")
        self.stores = Stores(StoreSection())
        self.store: Store = self.stores.open(self.url)
        self.around = Surroundings(self.stores, self.url, Reader(self.stores), Compute(), False, 16, Spares())
        self.cancelled: set[str] = set()

    def ref(self, name: str, shape: tuple[int, int], dtype: str, tile: tuple[int, int] = (32, 48)) -> MatrixRef:
        """A matrix of ours that may not exist yet."""
        return MatrixRef(f"{self.url}/{name}", "zarr", shape, dtype, tile, is_ours=True)

    async def put(self, name: str, array: np.ndarray, *, is_transposed: bool = False) -> Operand:
        """Store a matrix so that op(X) is ``array``."""
        stored = array.T if is_transposed else array
        ref = self.ref(name, (stored.shape[0], stored.shape[1]), array.dtype.name)
        await write_tiles(self.stores.open(ref.url), ref, Rect(0, stored.shape[0], 0, stored.shape[1]), stored)
        return Operand(ref, is_transposed)

    async def get(self, ref: MatrixRef) -> np.ndarray:
        """A whole matrix."""
        assert ref.shape is not None
        return await Reader(self.stores).read(ref, Rect(0, ref.shape[0], 0, ref.shape[1]))

    def context(self, work: Work, index: int = 0, stage: str = "stage", *, allow_local_files: bool = False) -> Context:
        """One attempt at it."""
        around = self.around._replace(is_cancelled=self.cancelled.__contains__, allow_local_files=allow_local_files)
        return Context(Job("fleet", OPERATION, stage, index, 0, 1, 0, work), around)

    async def run(self, work: Work, index: int = 0, stage: str = "stage") -> Outcome:
        """Do it as the worker does."""
        async with asyncio.timeout(30):
            return await dispatch.run(work, self.context(work, index, stage))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def sample() -> Callable[..., np.ndarray]:
    """Elements of any type, the same every time, over the whole range of integer types."""

    def make(shape: tuple[int, int], dtype: str, seed: int = 0) -> np.ndarray:
        random, kind = np.random.default_rng(seed), np.dtype(dtype)
        if kind.kind in "iu":
            info = np.iinfo(kind)
            return random.integers(info.min, info.max, shape, kind, endpoint=True)
        if kind.kind == "b":
            return random.random(shape) < 0.1
        values = random.standard_normal(shape)
        return (values + 1j * random.standard_normal(shape)).astype(kind) if kind.kind == "c" else values.astype(kind)

    return make
