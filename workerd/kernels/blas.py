"""BLAS as the kernels need it: in place, on strided panels, without the interpreter's lock.

``scipy.linalg.blas`` holds the GIL for the whole call (seen with SciPy 1.17), which would stop the worker's event loop
for seconds, and copies panels that are slices. So gemm is called through the function pointers that SciPy publishes for
Cython (``scipy.linalg.cython_blas``): ctypes gives the lock up, and leading dimensions are ours to set.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from scipy.linalg import cython_blas
from threadpoolctl import ThreadpoolController

_ROUTINES: Final = {"float32": "sgemm", "float64": "dgemm", "complex64": "cgemm", "complex128": "zgemm"}


def accumulate(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """``c[m, n] += a[m, k] @ b[k, n]`` in place, all of one BLAS dtype.

    ``c`` is C-ordered. ``a`` and ``b`` may be C- or F-ordered or slices of such arrays: none is copied; an array with
    other strides is. BLAS is column-major, so what it computes is Cᵀ += Bᵀ Aᵀ on the same bytes.
    """
    (m, k), n = a.shape, b.shape[1]
    if b.shape[0] != k or c.shape != (m, n) or not (c.flags.c_contiguous and a.dtype == b.dtype == c.dtype):
        raise ValueError(f"cannot accumulate {a.dtype}{a.shape} @ {b.dtype}{b.shape} in {c.dtype}{c.shape}")
    if 0 in (m, n, k):
        return
    (a, trans_a, lda), (b, trans_b, ldb) = _column_major(a), _column_major(b)
    one = np.ones(1, c.dtype)
    _gemm(c.dtype.name)(
        trans_b, trans_a, *map(_int, (n, m, k)), one.ctypes.data,
        b.ctypes.data, _int(ldb), a.ctypes.data, _int(lda), one.ctypes.data, c.ctypes.data, _int(n),
    )  # fmt: skip


def _int(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def _column_major(x: np.ndarray) -> tuple[np.ndarray, bytes, int]:
    """How BLAS is told to read xᵀ from the bytes of ``x``: the array, the transposition flag, the leading dimension."""
    if (lead := _lead(x)) is not None:
        return x, b"N", lead
    if (lead := _lead(x.T)) is not None:
        return x, b"T", lead
    x = np.ascontiguousarray(x)
    return x, b"N", max(1, x.shape[1])


def _lead(x: np.ndarray) -> int | None:
    """Elements from one row to the next when each row is contiguous, else None."""
    rows, cols = x.shape
    if not x.flags.aligned or (cols > 1 and x.strides[1] != x.itemsize):
        return None
    if rows == 1:
        return max(1, int(cols))
    lead = int(x.strides[0] // x.itemsize)
    is_usable = lead >= max(1, cols) and lead * x.itemsize == x.strides[0]
    return int(lead) if is_usable else None


@functools.cache
def _gemm(dtype: str) -> Callable[..., None]:
    capsule = cython_blas.__pyx_capi__[_ROUTINES[dtype]]
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    address = pointer(capsule, name(capsule))
    ints, void = ctypes.POINTER(ctypes.c_int), ctypes.c_void_p
    kinds: list[Any] = [ctypes.c_char_p, ctypes.c_char_p, ints, ints, ints, void, void, ints, void, ints, void, void, ints]
    return ctypes.CFUNCTYPE(None, *kinds)(address)


def set_threads(cores: int) -> Mapping[str, int]:
    """Give SciPy's BLAS, which does the products, ``cores`` threads, and every other native pool one.

    NumPy brings a BLAS of its own; the checks use it on pieces that fit a core's cache, where a second thread costs
    more than it gives. Returns threads per library file.
    """
    _gemm("float64")
    mine = _products_library()
    pools = ThreadpoolController()
    for pool in pools.lib_controllers:
        pool.set_num_threads(cores if pool.filepath == mine or mine is None else 1)
    return {pool.filepath: pool.get_num_threads() for pool in pools.lib_controllers}


def _products_library() -> str | None:
    """File of the BLAS that SciPy uses; None when it cannot be told from NumPy's."""
    files = [pool.filepath for pool in ThreadpoolController().lib_controllers if pool.user_api == "blas"]
    scipys = [file for file in files if "scipy" in file.lower() and "numpy" not in file.lower()]
    return scipys[0] if len(scipys) == 1 and len(files) > 1 else None
