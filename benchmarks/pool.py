"""The children that are up: kept warm from one work to the next, and only those that take part in the one that runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from benchmarks.children import Child, PeerFailedError


class Pool:
    """In ``with``, so that all of them end."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.only(())

    def only(
        self, names: Sequence[str], options: dict[str, Any] | None = None, variables: dict[str, str] | None = None
    ) -> tuple[list[Child], dict[str, str]]:
        """The children of these peers, in this order, with nobody beside them; and for peers that do not start, why."""
        wanted = {f"{name} {json.dumps([options, variables])}": name for name in names}
        for key in [key for key in self._children if key not in wanted]:
            self._children.pop(key).close()
        failed = {}
        with ThreadPoolExecutor() as threads:  # side by side: nothing is timed before all are warm
            started = {
                key: threads.submit(Child, name, options, variables) for key, name in wanted.items() if key not in self._children
            }
        for key, child in started.items():
            try:
                self._children[key] = child.result()
            except PeerFailedError as error:
                failed[wanted[key]] = str(error)
        return [self._children[key] for key in wanted if key in self._children], failed
