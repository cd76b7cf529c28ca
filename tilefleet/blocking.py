"""The blocking face, for notebooks and scripts: the async client, driven through one background event loop.

The rule: no twin. Every attribute is looked up on the async object; coroutines are run to their end, async iterators
become iterators. It works where a loop runs already (Jupyter), because its own loop runs in a thread (``background``).
"""

from __future__ import annotations

import atexit
import functools
import inspect
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tilefleet import background
from tilefleet.background import run
from tilefleet.config import Config

T = TypeVar("T")

_open: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    """Give embedded deployments back. The loop is still there: what is registered last runs first."""
    if not background.is_running():
        return
    for client in list(_open):
        with suppress(Exception):
            client.close()


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
