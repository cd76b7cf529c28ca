"""Looking at a fleet: its machines, its records, and what the leader's control object says about its workers.

The rule: a beacon counts when it *changed* while we watched, or was written within a moment by clocks that agree; a control
object that stands still says nothing about anybody, so no node is called sick because its coordinator is gone.
"""

from __future__ import annotations

import asyncio
import time

from coordinator.fleet.deciding.picture import HEARD_S, Observed, number_of
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.ports import Provider
from coordinator.fleet.records import NodeRecord
from coordinator.runtime.leadership import SILENT_BEATS, last_beacon
from tilefleet import layout
from tilefleet.records import Control, WorkerView
from tilefleet.store import Store


class Ears:
    """What the leader says, from look to look."""

    def __init__(self, store: Store, beat_s: float) -> None:
        self._store = store
        self._patience_s = SILENT_BEATS * beat_s
        self._seen: Control | None = None
        self._changed = float("-inf")
        self._lock = asyncio.Lock()
        self.led_since = 0.0
        self.heard: dict[str, float] = {}
        """By worker: when the leader listed it last, by our clock. It lists those heard within ``coordinator.worker_silence``,
        however long that is."""

    async def listen(self) -> Control | None:
        """The control object of a leader that lives; None when there is none."""
        async with self._lock:
            control = await last_beacon(self._store)
            now = time.time()
            if control is None or not control.leader:
                self._seen = None
                return None
            if self._seen is None or self._seen.epoch != control.epoch:
                entry = await self._store.head(layout.leader(control.epoch))
                self.led_since = entry.modified_at if entry is not None else now
                is_recent = abs(now - control.at) < self._patience_s
                self._changed = time.monotonic() if is_recent else float("-inf")
            elif control != self._seen:
                self._changed = time.monotonic()
            self._seen = control
            if self.control is None:
                return None
            self.heard |= dict.fromkeys((view.name for view in control.workers), now)
            return control

    @property
    def control(self) -> Control | None:
        """What was said last by a leader that lives."""
        return self._seen if time.monotonic() - self._changed <= self._patience_s else None

    def view_of(self, node: str) -> WorkerView | None:
        """The worker of a node, as the leader that lives shows it; None when that lists it no more."""
        workers = self.control.workers if self.control is not None else ()
        return next((view for view in workers if view.name == node), None)


async def look(provider: Provider, nodes: NodeStore, ears: Ears, busy: frozenset[str] = frozenset()) -> Observed:
    """One look at everything."""
    machines, records, fleet, control = await asyncio.gather(
        provider.machines(), nodes.nodes(), nodes.fleet(), ears.listen()
    )  # fmt: skip
    workers = control.workers if control is not None else ()
    return Observed(
        machines=tuple(machines),
        records=tuple(records),
        heard=_heard(control, records, ears),
        held={view.name: view.held for view in workers},
        departed=dict(control.departed) if control is not None else {},
        versions={view.name: view.version for view in workers},
        led_since=ears.led_since if control is not None else None,
        next_node=max([fleet.next_node if fleet is not None else 1, *(number_of(record.name)[0] + 1 for record in records)]),
        busy=busy,
    )


def _heard(control: Control | None, records: list[NodeRecord], ears: Ears) -> dict[str, float]:
    """Workers that the leader does not list any more are silent, whenever they were heard last; a coordinator on a node of its
    own is well as long as somebody leads: it may be the one that stands by."""
    heard = dict(ears.heard)
    if control is not None:
        listed = {view.name for view in control.workers}
        heard = {name: at if name in listed else min(at, time.time() - HEARD_S - 1) for name, at in heard.items()}
        heard |= {record.name: time.time() for record in records if record.role == "coordinator" and not record.ended_at}
    return heard
