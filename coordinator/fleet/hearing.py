"""Whether a node is heard: waiting for its hello, and for its silence after it was told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from coordinator.fleet.observing import Ears
from coordinator.fleet.records import NodeRecord
from tilefleet.errors import Unreachable
from tilefleet.records import Control

GOOD_BYE_S = 30.0  # from the end of a daemon to a control object that lists it no more


class Hearing:
    """Waits on what the leader's control object shows."""

    def __init__(self, ears: Ears, poll_s: float) -> None:
        self._ears = ears
        self._poll_s = poll_s
        self.is_coordinator_coming: Callable[[], bool] = lambda: False
        """Whether a coordinator is being set up, so that it is no wonder that nobody leads."""

    async def hello(self, record: NodeRecord, release: str, within_s: float) -> str:
        """Why the node is not heard with that release in time; empty when it is. A coordinator is well when somebody leads: it
        may be the one that stands by."""
        deadline = time.monotonic() + within_s
        control = None
        while time.monotonic() < deadline:
            control = await self._listen()
            if control is not None and (record.role == "coordinator" or self._version(record.name) == release):
                return ""
            if control is None and record.role == "worker" and self.is_coordinator_coming():
                deadline = time.monotonic() + within_s
            await asyncio.sleep(min(self._poll_s, within_s / 10))
        return self._why_not(record, release, within_s, is_led=control is not None)

    async def good_bye(self, name: str) -> None:
        """Wait until the worker is listed no more, but not for long: its jobs come back by their leases in any case."""
        deadline = time.monotonic() + GOOD_BYE_S
        while time.monotonic() < deadline:
            control = await self._listen()
            if control is not None and self._ears.view_of(name) is None:
                return
            await asyncio.sleep(self._poll_s)

    def _version(self, name: str) -> str:
        view = self._ears.view_of(name)
        return view.version if view is not None else ""

    async def _listen(self) -> Control | None:
        try:
            return await self._ears.listen()
        except Unreachable:
            return None

    def _why_not(self, record: NodeRecord, release: str, within_s: float, *, is_led: bool) -> str:
        within = f"within {within_s:.0f} s"
        if not is_led:
            return f"its {record.role} was started, and no coordinator led {within} that could have heard it"
        if found := self._version(record.name):
            return f"its worker says that it runs {found}, and not {release}"
        return f"its worker was started, and the coordinator did not hear it {within}"
