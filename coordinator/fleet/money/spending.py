"""The cost line, which stands before everything that spends.

The rule: pure, and never more certain than what is known: machines with their disks and addresses, where a price is known, with
where it is from. Requests come on top, and what leaves AWS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from coordinator.fleet.records import Price, Role
from tilefleet.fleet_config import NodesSection

HOURS_A_DAY = 24
REQUESTS = "plus S3 and SQS requests"


class Lot(NamedTuple):
    """Machines of one kind that will be paid for."""

    number: int
    price: Price | None
    kind: str = ""
    """Instance type, where there is no price to say it."""
    market: str = ""


class Beside(NamedTuple):
    """What each machine needs and is paid for by the hour besides, running."""

    disk_gib: float
    usd_per_hour: float
    """Of the disk and a public IPv4 address."""


def cost_line(lots: Sequence[Lot], *, beside: Beside | None = None, ends: str = "") -> str:
    """``4 × c7i.xlarge on-demand: $0.741 an hour, $17.78 a day, with about $0.0068 an hour each for 16 GiB of disk and a public
    IPv4 address, plus S3 and SQS requests (price list of 2026-11-01)``.

    ``ends``: what ends the costs, as ``end_of`` has it.
    """
    lots = [lot for lot in lots if lot.number]
    if not lots:
        return "no new machines: nothing more than what runs already is paid for"
    what = " and ".join(f"{lot.number} × {_name(lot)}" for lot in lots)
    known = [(lot.number, lot.price) for lot in lots if lot.price is not None]
    if len(known) < len(lots):
        return f"{what}: the price is not known here; look it up before you go on"
    usd_per_hour = sum(number * price.usd_per_hour for number, price in known)
    requests = REQUESTS
    if beside is not None:
        usd_per_hour += beside.usd_per_hour * sum(number for number, _ in known)
        each = f"about {usd_text(beside.usd_per_hour)} an hour each for {beside.disk_gib:g} GiB of disk and a public IPv4 address"
        requests = f"with {each}, {REQUESTS}"
    sources = "; ".join(dict.fromkeys(price.source for _, price in known))
    line = f"{what}: {usd_text(usd_per_hour)} an hour, {usd_text(usd_per_hour * HOURS_A_DAY)} a day, {requests} ({sources})"
    if any(lot.market == "spot-or-on-demand" for lot in lots):
        line += "; where no spot is to be had, on-demand at its price"
    return f"{line}; {ends}" if ends else line


def end_of(nodes: NodesSection, *, lifetime_s: float, dead_man_s: float) -> str:
    """What ends the costs of a fleet by itself. A machine's lifetime does not, as a coordinator that runs replaces it."""
    limits = [f"at {usd_text(nodes.max_cost_usd)}"] if nodes.max_cost_usd else []
    limits += [f"after {nodes.max_hours:g} h"] if nodes.max_hours else []
    if limits:
        return f"the fleet ends {' or '.join(limits)}"
    if lifetime_s and nodes.coordinator == "node" and nodes.provider == "ec2":
        rest = ", and the workers when they have not heard it for " + f"{dead_man_s / 60:g} min" if dead_man_s else ""
        return (
            f"the fleet ends with its coordinator's node, {lifetime_s / 3600:g} h after that is launched{rest}, also in the "
            "middle of work (nodes.max_hours or nodes.max_cost_usd sets another end)"
        )
    each = f"a machine ends after {lifetime_s / 3600:g} h, and is replaced while a coordinator runs; " if lifetime_s else ""
    or_else = ", or when no coordinator runs" if dead_man_s else ""
    return f"{each}the fleet ends when you say so{or_else} (nodes.max_cost_usd sets a limit)"


def lifetime_s_of(role: Role, nodes: NodesSection, *, lifetime_s: float, dead_man_s: float) -> float:
    """After how much running time a node ends, whatever happens; 0: never.

    Nobody replaces an instance with the coordinator, so what ends it is the budget of its fleet, where there is one; and, as one
    that does not lead keeps to no budget, the dead-man switch, where that is on."""
    has_budget = bool(nodes.max_cost_usd or nodes.max_hours)
    is_ended_otherwise = role == "coordinator" and nodes.provider == "ec2" and has_budget and dead_man_s > 0
    return 0.0 if is_ended_otherwise else lifetime_s


def own_machines_line(count: int) -> str:
    """The cost line of a fleet of machines that exist."""
    machines = "1 machine of yours" if count == 1 else f"{count} machines of yours"
    return f"{machines}: nothing is launched; S3 and SQS requests are billed as usual"


def usd_text(usd: float) -> str:
    """``$0.0447``, ``$0.714``, ``$17.14``, ``$1,204``: three digits that count, but cents from a dollar on."""
    if usd >= 1000:
        return f"${usd:,.0f}"
    if usd >= 1 or usd == 0:
        return f"${usd:.2f}"
    digits = 3 if usd >= 0.1 else 4
    return f"${usd:.{digits}f}"


def _name(lot: Lot) -> str:
    if lot.price is not None:
        return f"{lot.price.kind} {lot.price.market}"
    return f"{lot.kind or 'machine'} {lot.market}".strip()
