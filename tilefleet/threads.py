"""Blocking calls in threads, beside the event loop.

The rule: who waits for such a call learns of its own cancellation only after the call has ended. A thread cannot be stopped,
and what it still reads into must not be used for anything else meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREAD_BYTES = 2**20  # a crc and a copy of 1 MiB take 0.2 ms: below it a thread costs more than it saves


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer of ``function``, called in a thread."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.gather(call, return_exceptions=True)
        raise


async def in_thread_if_large(n_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls ``function``: here when it touches little, in a thread when it would hold up the event loop."""
    if n_bytes < THREAD_BYTES:
        return function(*args, **kwargs)
    return await in_thread(function, *args, **kwargs)
