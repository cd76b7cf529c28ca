"""Running many small coroutines, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def for_each(items: Iterable[T], act: Callable[[T], Awaitable[None]], *, concurrency: int, name: str) -> None:
    """``act`` on every item, at most ``concurrency`` at a time; the first failure cancels the others and is raised bare."""
    source = iter(items)

    async def drain() -> None:
        for item in source:  # shared: each item goes to one of the tasks
            await act(item)

    try:
        async with asyncio.TaskGroup() as group:
            for slot in range(concurrency):
                group.create_task(drain(), name=f"{name}-{slot}")
    except BaseExceptionGroup as failures:
        raise _first(failures) from None


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
