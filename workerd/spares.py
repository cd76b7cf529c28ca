"""Memory of panels and blocks that a finished job leaves for the next.

Fresh memory costs more than reading a tile into it: the kernel clears each page first, and a virtual machine may have to
ask its host for it. The rule: what lies here is memory that no job holds; a job that needs it for something else comes first.
"""

from __future__ import annotations

import numpy as np

MOST = 10  # two sets of two panels and a block, of two jobs
MOST_TOO_LARGE = 2  # times: of a buffer that is larger than what is asked for


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
        """A one-dimensional array of ``size`` elements, whatever was in them."""
        n_bytes = size * dtype.itemsize
        fitting = [buffer for buffer in self._buffers if n_bytes <= buffer.nbytes <= MOST_TOO_LARGE * n_bytes]
        if not fitting:
            return np.empty(n_bytes, np.uint8).view(dtype)
        smallest = min(fitting, key=lambda buffer: buffer.nbytes)
        self._buffers = [buffer for buffer in self._buffers if buffer is not smallest]
        return smallest[:n_bytes].view(dtype)

    def leave(self, buffer: np.ndarray) -> None:
        """For the next ``take``; ``buffer`` came from one."""
        whole = buffer.base if isinstance(buffer.base, np.ndarray) else buffer
        self._buffers = [*self._buffers, whole][-MOST:]

    def keep_within(self, n_bytes: int) -> None:
        """Free what is more than that, the oldest first."""
        while self.n_bytes > n_bytes:
            del self._buffers[0]
