"""The phases of one node's launch, set-up or end: watched, timed, and what goes wrong in one named.

The rule: whatever of ours fails in a phase is this node's failure; a bug is not.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coordinator.fleet.ports import PhaseEvent, Watch
from coordinator.fleet.setup.bootstrap import StepFailed
from tilefleet.errors import TilefleetError


class NodeFailed(Exception):
    """Something about one node did not work out."""

    def __init__(self, step: str, sentence: str, *, is_worth_another: bool) -> None:
        super().__init__(sentence)
        self.step = step
        self.sentence = sentence
        self.is_worth_another = is_worth_another
        """Whether the same may succeed on this machine when it is tried again."""


class Phases:
    """One node's. ``watch`` is for what reports its own steps."""

    def __init__(self, node: str, watch: Watch) -> None:
        self._node = node
        self._watch = watch
        self.took_s: dict[str, float] = {}

    def watch(self, event: PhaseEvent) -> None:
        """Pass it on, and keep how long it took."""
        if event.state == "done":
            self.took_s[event.phase] = round(event.elapsed_s, 3)
        self._watch(event)

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        """Raises NodeFailed for every error of ours."""
        began = time.monotonic()
        self.watch(PhaseEvent(self._node, name, "begun"))
        try:
            async with self.steps(name):
                yield
        except NodeFailed as failed:
            self.watch(PhaseEvent(self._node, name, "failed", time.monotonic() - began, failed.sentence))
            raise
        self.watch(PhaseEvent(self._node, name, "done", time.monotonic() - began))

    @asynccontextmanager
    async def steps(self, name: str) -> AsyncIterator[None]:
        """The same around what reports its steps by itself."""
        try:
            yield
        except StepFailed as error:
            raise NodeFailed(error.step, error.sentence, is_worth_another=error.may_pass) from error
        except TilefleetError as error:
            raise NodeFailed(name, str(error), is_worth_another=error.is_retryable) from error
        except TimeoutError as error:
            raise NodeFailed(name, "it did not end in time", is_worth_another=True) from error
