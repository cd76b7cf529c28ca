"""Looks after the fleet's machines while a coordinator leads: replaces what is lost or sick, scales, keeps to the budget.

The rules: it looks without asking, and takes the fleet's turn only when there is something to do and no command has it; it lets
go as soon as one wants it. Whatever goes wrong here is logged and tried again, and never reaches the scheduler.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from msgspec.structs import replace

from coordinator.fleet.convergence import Convergence, desired_of, prune
from coordinator.fleet.deciding.choices import as_chosen
from coordinator.fleet.deciding.picture import Desired, Observed, nodes_of
from coordinator.fleet.deciding.scaling import Load, Scale, Wish, limits_of, scale
from coordinator.fleet.fleet import Fleet, opened
from coordinator.fleet.money.costs import rate_usd_per_hour, spent_usd
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.ports import PhaseEvent
from coordinator.fleet.records import FleetRecord
from coordinator.fleet.turn import Holding, Watching, held_if_free, this_process
from tilefleet.backoff import Backoff
from tilefleet.config import Config
from tilefleet.errors import NotFound, TilefleetError
from tilefleet.records import Control
from tilefleet.store import Store

log = structlog.get_logger()

EVERY_S = 15.0
LEAST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0  # after a failure: of credentials, of a network, of a setting


async def keep(config: Config, store: Store) -> None:
    """Do so until cancelled."""
    backoff = Backoff(LEAST_PAUSE_S, LONGEST_PAUSE_S)
    while True:
        try:
            await _keep(config, store, backoff)
        except TilefleetError as error:
            log.warning("keeper_failed", error=str(error))
        except Exception as error:
            log.error("keeper_met_a_bug", error=f"{type(error).__name__}: {error}", exc_info=True)
        await backoff.sleep()


async def _keep(config: Config, store: Store, backoff: Backoff) -> None:
    while True:
        record = await _fleet_record(store, config.fleet.name)
        if record is not None:
            async with opened(as_chosen(config, record), store, is_keeper=True) as fleet:
                await Keeper(fleet, record, EVERY_S).run(backoff)
        await asyncio.sleep(EVERY_S)


async def _fleet_record(store: Store, name: str) -> FleetRecord | None:
    try:
        return await NodeStore(store).fleet_of(name)
    except NotFound:  # of the bucket: somebody takes the fleet down
        return None


class Keeper:
    """Looks at the fleet again and again, and takes its turn when there is something to do."""

    def __init__(self, fleet: Fleet, record: FleetRecord, every_s: float) -> None:
        self._fleet = fleet
        self._record = record
        self._every_s = every_s
        self._convergence = Convergence(fleet, desired_of(fleet), _say_phase, _say, is_patient=True)
        self._watching = Watching(fleet.store)
        self._wishes: tuple[Wish, ...] = ()
        self._n_wanted: int | None = None
        self._is_over = False
        self._price_usd: float | None = None

    async def run(self, backoff: Backoff | None = None) -> None:
        """Until there is no fleet any more, or ``fleet up`` was told otherwise."""
        store, name = self._fleet.store, self._record.name
        while (record := await _fleet_record(store, name)) is not None and _choices(record) == _choices(self._record):
            self._record = record
            if self._convergence.is_to_act(await self._look()):
                async with held_if_free(store, this_process("the keeper"), self._watching, _say) as holding:
                    if holding is not None:
                        await self._act(holding)
            if backoff is not None:
                backoff.reset()
            await asyncio.sleep(self._every_s)

    async def _act(self, holding: Holding) -> None:
        """Until nothing is left to do, or somebody wants the turn."""
        if not await self._is_same():
            return
        log.info("keeper_acts", turn=holding.number)
        try:
            await prune(self._fleet)
            while not holding.is_wanted.is_set() and self._convergence.is_to_act(observed := await self._look()):
                await self._convergence.act(observed)
                await _until(holding.is_wanted, self._fleet.poll_s)
        finally:
            await self._convergence.end()
            log.info("keeper_rests", turn=holding.number)

    async def _is_same(self) -> bool:
        """Whether the fleet is still there, as it was; asked in the turn: a command that had the last one may have ended it."""
        record = await _fleet_record(self._fleet.store, self._record.name)
        return record is not None and _choices(record) == _choices(self._record)

    async def _look(self) -> Observed:
        """What there is; what there should be follows from it."""
        observed = await self._convergence.look()
        self._convergence.desired = await self._desired(observed, self._convergence.control, self._record)
        return observed

    async def _desired(self, observed: Observed, control: Control | None, record: FleetRecord) -> Desired:
        desired = desired_of(self._fleet)
        if not self._fleet.provider.can_launch:
            return desired  # machines that cost nothing here, and are there or not
        scaled = scale(
            limits_of(self._fleet.config.nodes), await self._load(observed, control, record), self._wishes, time.time()
        )
        self._wishes = scaled.wishes
        self._say_scale(scaled)
        return replace(desired, n_workers=scaled.n, has_coordinator=desired.has_coordinator and not scaled.is_over)

    async def _load(self, observed: Observed, control: Control | None, record: FleetRecord) -> Load:
        now = time.time()
        if self._price_usd is None:
            price = await self._fleet.provider.price()
            self._price_usd = price.usd_per_hour if price is not None else 0.0
        return Load(
            n_nodes=sum(node.is_live and node.role == "worker" and not node.is_leaving for node in nodes_of(observed)),
            remaining_worker_s=control.remaining_worker_s if control is not None else 0.0,
            n_open=control.n_open if control is not None else 0,
            spent_usd=spent_usd(record, observed.records, now),
            rate_usd_per_hour=rate_usd_per_hour(observed.records),
            node_usd_per_hour=self._price_usd,
            age_s=now - record.created_at,
        )

    def _say_scale(self, scaled: Scale) -> None:
        if scaled.is_over and not self._is_over:
            log.warning("budget_used_up", reason=scaled.reason)
        elif scaled.n != self._n_wanted:
            log.info("fleet_scaled", n=scaled.n, before=self._n_wanted, reason=scaled.reason)
        self._is_over, self._n_wanted = scaled.is_over, scaled.n


def _choices(record: FleetRecord) -> tuple[str, int, str]:
    return record.uid, record.count, record.coordinator


def _say_phase(event: PhaseEvent) -> None:
    if event.state == "failed":
        log.warning("node_phase_failed", node=event.node, phase=event.phase, error=event.sentence)
    elif event.state == "done":
        log.info("node_phase", node=event.node, phase=event.phase, elapsed_s=round(event.elapsed_s, 3))


def _say(text: str) -> None:
    log.info("fleet_changed", text=text)


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
