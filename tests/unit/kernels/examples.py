"""Matrices for the kernel tests: every dtype, extreme integers, every memory order."""

from __future__ import annotations

import numpy as np

from tilefleet.dtypes import SUPPORTED
from workerd.kernels.product import BlockProduct

DTYPES = [np.dtype(name) for name in SUPPORTED]


def full_range(rng: np.random.Generator, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    """Integers over the whole range of the type, its ends among them; floats of both signs."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.1
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        x[rng.random(shape) < 0.1] = info.min
        x[rng.random(shape) < 0.1] = info.max
        return x
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


def product_of(
    a: np.ndarray, b: np.ndarray, panel_k: int, *, is_checked: bool = True, seed: int = 1
) -> tuple[np.ndarray, float | None]:
    """A @ B through ``BlockProduct``, in panels of ``panel_k``."""
    k, dtype = a.shape[1], np.result_type(a.dtype, b.dtype)
    block = BlockProduct(a.shape[0], b.shape[1], k, a.dtype, b.dtype, dtype, seed, is_checked)
    for k0 in range(0, k, panel_k):
        block.add(a[:, k0 : k0 + panel_k], b[k0 : k0 + panel_k])
    return block.finish()
