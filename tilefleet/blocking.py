"""The blocking face, for notebooks and scripts: the async client, driven through one background event loop.

The rule: no twin. Every attribute is looked up on the async object; coroutines are run to their end, async iterators
become iterators. It works where a loop runs already (Jupyter), because its own loop runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import inspect
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tilefleet.config import Config
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
_open: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run on the background loop (started by the first call; anew after a fork)."""
    global _loop  # noqa: PLW0603 - one loop thread for the process
    with _lock:
        if _loop is None or _loop.pid != os.getpid():
            _loop = _Loop()
    return _loop.run(coroutine)


@atexit.register
def _leave() -> None:
    """Give embedded deployments back and end the loop, in this order."""
    global _loop
    if _loop is None or _loop.pid != os.getpid():
        return
    for client in list(_open):
        with suppress(Exception):
            client.close()
    loop, _loop = _loop, None
    loop.stop()


class Blocking:
    """An async object whose methods block. ``async_object`` is the object itself."""

    def __init__(self, async_object: Any) -> None:
        self.async_object = async_object
        self.__doc__ = type(async_object).__doc__

    def __getattr__(self, name: str) -> Any:
        return _blocking(getattr(self.async_object, name))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.async_object)})

    def __repr__(self) -> str:
        return repr(self.async_object)


class BlockingClient(Blocking):
    """``tilefleet.connect()``: the methods of ``tilefleet.Client``, which block until they are done."""

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the embedded deployment back; it stops when it has nothing left to do."""
        run(self.async_object.close())
        _open.discard(self)


def connect(config: Config | None = None, *, config_path: str | Path | None = None) -> BlockingClient:
    """A blocking client: ``with tilefleet.connect() as client: print(np.asarray(client.multiply(a, b).result()))``.

    Raises BadConfig when the configuration cannot be used. Nothing is started before the first operation.
    """

    async def opened() -> Any:
        from tilefleet.client import Client

        return Client(config, config_path=config_path)

    client = BlockingClient(run(opened()))
    _open.add(client)
    return client


def _blocking(value: Any) -> Any:
    """What an attribute of an async object is on its blocking face."""
    if not inspect.isroutine(value):
        return value

    @functools.wraps(value)
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = value(*map(_async, args), **{name: _async(item) for name, item in kwargs.items()})
        if isinstance(answer, AsyncIterator):
            return _iterated(answer)
        return _faced(run(answer)) if inspect.iscoroutine(answer) else _faced(answer)

    return call


def _iterated(items: AsyncIterator[T]) -> Iterator[T]:
    async def following() -> T | None:
        return await anext(items, None)

    try:
        while (item := run(following())) is not None:
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            run(items.aclose())


def _async(value: Any) -> Any:
    return value.async_object if isinstance(value, Blocking) else value


def _faced(value: Any) -> Any:
    from tilefleet.operation import Operation

    return Blocking(value) if isinstance(value, Operation) else value
