"""A simulated coordinator process: stands by, leads for a term, stands by again; as ``coordinator.runtime.leadership`` has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coordinator.core.scheduler import Scheduler
from coordinator.runtime.leadership import SILENT_BEATS
from tests.simulation.processes import Process, Steps
from tests.simulation.store import url_of
from tests.simulation.terms import FOREVER_S, Term
from tilefleet import layout
from tilefleet.errors import TilefleetError
from tilefleet.records import Control

if TYPE_CHECKING:
    from tests.simulation.world import World


class SimCoordinator(Process):
    """One coordinator process: stands by, leads, stands by again."""

    scheduler: Callable[..., Scheduler] = Scheduler
    make_term: Callable[..., Term] = Term

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world.agenda, world.life(world.habits.coordinator_dies))
        self.world = world
        self.name = name
        self.term: Term | None = None

    def start(self) -> None:
        self.spawn(self._serve())

    def die(self) -> None:
        if self.is_alive:
            super().die()
            self.end_term()
            self.world.coordinator_died(self)

    def freeze(self, seconds: float, *, stops_clock: bool) -> None:
        super().freeze(seconds, stops_clock=stops_clock)
        if self.term is not None:
            self.term.freeze(seconds, stops_clock=stops_clock)

    def end_term(self) -> None:
        if self.term is not None:
            self.term.is_alive = False
            self.term = None

    def _serve(self) -> Steps[None]:
        while True:
            try:
                epoch = yield from self._try_to_lead()
            except TilefleetError:
                epoch = None
            if epoch is None:
                yield self.world.settings.beacon_s
                continue
            self.term = term = self.make_term(self, epoch)
            term.start()
            while term.is_alive:
                yield (term.ended, FOREVER_S)

    def _try_to_lead(self) -> Steps[int | None]:
        """``coordinator.runtime.leadership``."""
        world = self.world
        epoch: int = yield from world.store.call(lambda: world.epoch)
        if epoch and not self.ignores_leader and not (yield from self._is_vacant(epoch)):
            return None
        self.ignores_leader = False
        url = url_of(layout.leader(epoch + 1))
        is_new: bool = yield from world.store.call(lambda: world.store.put_new(url, self.name))
        return epoch + 1 if is_new else None

    ignores_leader = False
    """By mistake."""

    def _is_vacant(self, epoch: int) -> Steps[bool]:
        world, store = self.world, self.world.store
        leader = store.get(url_of(layout.leader(epoch)))
        if world.is_known_dead(leader):
            return True
        seen: Control | None = yield from store.call(lambda: store.get(url_of(layout.control(epoch))))
        for _ in range(SILENT_BEATS):
            yield world.settings.beacon_s
            now: tuple[Any, int] = yield from store.call(lambda: (store.get(url_of(layout.control(epoch))), world.epoch))
            if now != (seen, epoch):
                return False
        return True
