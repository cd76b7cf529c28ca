"""How many workers a fleet should have: remaining work, limits and money in, a number and its reason out. Pure.

The rules, in this order:

1. Where the money or the time is used up, none. What running nodes cost until they are drained counts as spent.
2. Without ``nodes.max_nodes`` there is no autoscaling: always ``nodes.count``.
3. As many as finish the work that is known within ``nodes.finish_in``, at least one while there is any, between
   ``nodes.min_nodes`` and ``nodes.max_nodes``.
4. More at once, fewer only when fewer were enough throughout the last ``nodes.idle``: a start takes minutes and is paid for,
   so a short lull costs less than it saves.
5. None is added that the money or the time left does not pay for: its start, and its share of the work.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import msgspec

from tilefleet.fleet_config import NodesSection

START_S = 150.0  # from launch to hello on EC2: one and a half minutes to boot, one to install
DRAIN_S = 180.0  # worker.drain, a terminate, and the keeper's own interval
NOTHING_USD = 1e-6  # an hour of no machine costs that little


class Limits(msgspec.Struct, frozen=True):
    """The settings that bear on it."""

    count: int
    min_nodes: int = 0
    max_nodes: int = 0
    finish_in_s: float = 900.0
    idle_s: float = 300.0
    max_cost_usd: float = 0.0
    max_hours: float = 0.0


def limits_of(nodes: NodesSection) -> Limits:
    """Those of a configuration."""
    return Limits(
        count=nodes.count, min_nodes=nodes.min_nodes, max_nodes=nodes.max_nodes, finish_in_s=nodes.finish_in.s,
        idle_s=nodes.idle.s, max_cost_usd=nodes.max_cost_usd, max_hours=nodes.max_hours,
    )  # fmt: skip


class Load(NamedTuple):
    """What there is to do and what it has cost so far."""

    n_nodes: int
    """Workers there are, or on their way."""
    remaining_worker_s: float = 0.0
    n_open: int = 0
    """Operations that have not ended."""
    spent_usd: float = 0.0
    rate_usd_per_hour: float = 0.0
    """Of everything that runs."""
    node_usd_per_hour: float = 0.0
    """Of one more worker; 0 where it is not known."""
    age_s: float = 0.0
    """Since the fleet's first ``up``."""


class Wish(NamedTuple):
    """How many workers were enough at some time."""

    at: float
    n: int


class Scale(NamedTuple):
    """The answer."""

    n: int
    reason: str
    is_over: bool = False
    """The budget is used up: the fleet goes, its coordinator last."""
    wishes: tuple[Wish, ...] = ()
    """To be handed in the next time."""


def scale(limits: Limits, load: Load, wishes: tuple[Wish, ...], now: float) -> Scale:
    """How many workers there should be now. ``wishes``: what the last call gave back; () the first time."""
    over = over_budget(limits, load)
    if over:
        return Scale(0, over, is_over=True)
    if not limits.max_nodes:
        return Scale(limits.count, "nodes.count")
    wanted, reason = _for_the_work(limits, load)
    began = wishes or (Wish(now, _clamped(load.n_nodes, limits)),)
    recent = (*_since(began, now - limits.idle_s), Wish(now, wanted))
    n = max(wish.n for wish in recent)
    if n > wanted:
        reason = f"{n} were needed within the last {limits.idle_s:.0f} s"
    if n > load.n_nodes:
        affordable = _affordable(limits, load)
        if affordable < n:
            n, reason = max(affordable, min(load.n_nodes, n)), "the budget pays for no more"
    return Scale(n, reason, wishes=_joined(recent))


def over_budget(limits: Limits, load: Load) -> str:
    """Why the fleet must go; empty while it may stay."""
    until_gone_usd = load.rate_usd_per_hour * DRAIN_S / 3600
    if limits.max_cost_usd and load.spent_usd + until_gone_usd >= limits.max_cost_usd:
        return (
            f"the machines have cost ${load.spent_usd:.2f} and nodes.max_cost_usd is ${limits.max_cost_usd:.2f}: the fleet is "
            "drained; raise it and say 'tilefleet fleet up' to go on"
        )
    if limits.max_hours and load.age_s + DRAIN_S >= limits.max_hours * 3600:
        return (
            f"the fleet is {load.age_s / 3600:.1f} h old and nodes.max_hours is {limits.max_hours:g}: it is drained; "
            "raise it and say 'tilefleet fleet up' to go on"
        )
    return ""


def _for_the_work(limits: Limits, load: Load) -> tuple[int, str]:
    if not load.n_open and load.remaining_worker_s <= 0:
        return limits.min_nodes, "no work"
    n = max(1, ceil(load.remaining_worker_s / limits.finish_in_s - 1e-9))
    wanted = _clamped(n, limits)
    if wanted < n:
        return wanted, "nodes.max_nodes"
    return wanted, f"{load.remaining_worker_s:.0f} s of work on one worker"


def _clamped(n: int, limits: Limits) -> int:
    return min(max(n, limits.min_nodes), limits.max_nodes)


def _since(wishes: tuple[Wish, ...], since: float) -> tuple[Wish, ...]:
    """Those that held at some time from ``since`` on: the last one before it did."""
    older = [wish for wish in wishes if wish.at <= since]
    return (*older[-1:], *(wish for wish in wishes if wish.at > since))


def _joined(wishes: tuple[Wish, ...]) -> tuple[Wish, ...]:
    """Without those that only repeat the one before."""
    return tuple(wish for i, wish in enumerate(wishes) if i == 0 or wishes[i - 1].n != wish.n)


def _affordable(limits: Limits, load: Load) -> int:
    """Most workers that what is left pays for. The work costs the same on few or many; each new one adds its start."""
    n = limits.max_nodes
    if limits.max_cost_usd and load.node_usd_per_hour > NOTHING_USD:
        left_usd = limits.max_cost_usd - load.spent_usd - load.rate_usd_per_hour * DRAIN_S / 3600
        work_usd = load.remaining_worker_s * load.node_usd_per_hour / 3600
        start_usd = load.node_usd_per_hour * (START_S + DRAIN_S) / 3600
        n = min(n, load.n_nodes + int(max(0.0, left_usd - work_usd) / start_usd))
        if not load.n_nodes and left_usd > start_usd:
            n = max(n, 1)  # work that cannot all be paid for is still begun, by one
    if limits.max_hours and limits.max_hours * 3600 - load.age_s < START_S + DRAIN_S:
        n = min(n, load.n_nodes)
    return n
