"""Who waits for a thread is cancelled when the thread has ended, and not before."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tilefleet.threads import THREAD_BYTES, in_thread, in_thread_if_large


async def test_answers_and_errors_come_back() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_what_touches_little_is_done_here() -> None:
    assert await in_thread_if_large(THREAD_BYTES - 1, threading.get_ident) == threading.get_ident()
    assert await in_thread_if_large(THREAD_BYTES, threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_call_is_waited_for(fails: bool) -> None:
    may_end, has_ended = threading.Event(), threading.Event()

    def read() -> None:
        may_end.wait(30)
        has_ended.set()
        if fails:
            raise OSError("too late to matter")

    task = asyncio.create_task(in_thread(read))
    await asyncio.sleep(0)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert has_ended.is_set()
