"""One event loop in a thread of its own, for code that may not await: notebooks, scripts, NumPy's protocols.

The rule: this module knows nothing of what it runs. The loop is started by the first call, and once more after a fork; it
ends at exit, after everything that was registered with ``atexit`` later than this module was imported.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from tilefleet.store import settle

T = TypeVar("T")

UNWIND_S = 10.0  # for a cancelled call to give back what it holds


class _Loop:
    """The event loop in its thread; the thread is a daemon, and is ended by ``stop`` at exit."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tilefleet", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a blocking call was made inside tilefleet's own event loop; await the async method instead")
        ended, tasks = threading.Event(), list[asyncio.Task[T]]()

        def start() -> None:
            tasks.append(self._loop.create_task(coroutine))
            tasks[0].add_done_callback(lambda _: ended.set())

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # interrupted before it was started
                coroutine.close()
                ended.set()

        try:
            self._loop.call_soon_threadsafe(start)
            ended.wait()
        except BaseException:  # Ctrl-C: end the call in hand, and let it clean up
            self._loop.call_soon_threadsafe(cancel)
            ended.wait(UNWIND_S)
            raise
        return tasks[0].result()

    def stop(self) -> None:
        with suppress(Exception):
            self.run(settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(UNWIND_S)
        if not self._thread.is_alive():
            self._loop.close()


_loop: _Loop | None = None
_lock = threading.Lock()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run on the background loop (started by the first call; anew after a fork)."""
    global _loop  # noqa: PLW0603 - one loop thread for the process
    with _lock:
        if _loop is None or _loop.pid != os.getpid():
            _loop = _Loop()
    return _loop.run(coroutine)


def is_running() -> bool:
    """Whether this process has a loop (that of its parent, before a fork, is none)."""
    return _loop is not None and _loop.pid == os.getpid()


@atexit.register
def _leave() -> None:
    global _loop
    if _loop is not None and is_running():
        loop, _loop = _loop, None
        loop.stop()
