"""Panels in pieces that stay in a core's cache, so that a check costs one pass over memory and no panel-sized temporary."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

PIECE_ELEMENTS = 1 << 15  # 256 KiB of float64: two such buffers fit the L2 of every core sold since 2015


def pieces(panel: np.ndarray, elements: int = PIECE_ELEMENTS) -> Iterator[tuple[slice, slice]]:
    """Index pairs that cut ``panel`` along the axis that is far apart in memory, each at most about ``elements`` large."""
    rows, cols = panel.shape
    if panel.size == 0:
        return
    if is_by_columns(panel):
        step = max(1, elements // rows)
        yield from ((slice(0, rows), slice(j, min(j + step, cols))) for j in range(0, cols, step))
    else:
        step = max(1, elements // cols)
        yield from ((slice(i, min(i + step, rows)), slice(0, cols)) for i in range(0, rows, step))


def is_by_columns(panel: np.ndarray) -> bool:
    """True for an F-ordered panel (a transposed view)."""
    return abs(panel.strides[0]) < abs(panel.strides[1])


def shaped_like(buffer: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """The start of a flat ``buffer`` with the shape and the memory order of ``piece``; a new array when it is too small."""
    if piece.size > buffer.size:
        return np.empty(piece.shape, buffer.dtype, order="F" if is_by_columns(piece) else "C")
    flat = buffer[: piece.size]
    return flat.reshape(piece.shape[::-1]).T if is_by_columns(piece) else flat.reshape(piece.shape)
