"""The compute slot: one thread that does all arithmetic, so that jobs take turns and the event loop never computes.

The older job goes first; a younger one fills the gaps while the older waits for its data.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Turn(NamedTuple):
    seniority: int
    order: int  # unique, so that comparison never reaches the call
    call: Callable[[], Any]
    future: Future[Any]


class Compute:
    """``await compute(seniority, call)`` runs the call in the compute thread."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._turns: queue.PriorityQueue[_Turn] = queue.PriorityQueue()
        threading.Thread(target=self._work, name="compute", daemon=True).start()

    async def __call__(self, seniority: int, call: Callable[[], T]) -> tuple[T, float]:
        """The call's result and the seconds it ran; lower ``seniority`` goes first. Raises what the call raises."""
        future: Future[tuple[T, float]] = Future()
        self._turns.put(_Turn(seniority, next(self._order), call, future))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            turn = self._turns.get()
            if turn.future.set_running_or_notify_cancel():
                _fulfil(turn)
            del turn  # its arrays must not live until the next one comes


def _fulfil(turn: _Turn) -> None:
    began = time.perf_counter()
    try:
        answer = turn.call()
    except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the job, not to this thread
        turn.future.set_exception(error)
    else:
        turn.future.set_result((answer, time.perf_counter() - began))
