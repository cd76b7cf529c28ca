"""In the worker w1, every other product has one element that is wrong by one, as a bit that memory turns would make it."""

import random
import sys

if "workerd.daemon" in sys.orig_argv and sys.orig_argv[-1].endswith("workerd-1.toml"):
    import numpy as np

    from workerd.kernels import blas

    _right = blas.accumulate
    _draw = random.Random(1)

    def _accumulate(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
        _right(a, b, c)
        if c.size and _draw.random() < 0.5:
            c[_draw.randrange(c.shape[0]), _draw.randrange(c.shape[1])] += 1

    blas.accumulate = _accumulate
