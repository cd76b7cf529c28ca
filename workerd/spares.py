"""Memory of panels and blocks that a finished job leaves for the next.

Fresh memory costs more than reading a tile into it: the kernel clears each page first, and a virtual machine may have to
ask its host for it. The rule: what lies here is memory that no job holds; a job that needs it for something else comes first.
"""

from __future__ import annotations

import numpy as np

MOST = 10  # two sets of two panels and a block, of two jobs


class Spares:
    """``take`` a buffer, ``leave`` it when nothing writes to it any more."""

    def __init__(self) -> None:
        self._buffers: list[np.ndarray] = []
        """Bytes, the last left at the end."""

    @property
    def n_bytes(self) -> int:
        """Memory that lies here."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def take(self, size: int, dtype: np.dtype) -> np.ndarray:
        """A one-dimensional array of ``size`` elements, whatever was in them: never more memory than the job was granted."""
        n_bytes = size * dtype.itemsize
        for index, buffer in enumerate(self._buffers):
            if buffer.nbytes == n_bytes:
                return self._buffers.pop(index).view(dtype)
        return np.empty(size, dtype)

    def leave(self, buffer: np.ndarray) -> None:
        """For the next ``take``; ``buffer`` came from one."""
        self._buffers = [*self._buffers, buffer.view(np.uint8)][-MOST:]

    def keep_within(self, n_bytes: int) -> None:
        """Free what is more than that, the oldest first."""
        while self.n_bytes > n_bytes:
            del self._buffers[0]
