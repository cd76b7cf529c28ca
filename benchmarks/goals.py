"""What is to be reached, and what a result document says about it: pure.

The rule: a goal that was not measured says so; nothing is rounded in our favour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.findings import (
    OTHER_ARRAYS,
    PEERS,
    Case,
    Document,
    cases,
    cpu_seconds,
    fact,
    largest,
    named,
    ratio,
    runs,
    typical,
    worst_ratio,
)
from benchmarks.statistics import Spread, short, spread


class Goal(NamedTuple):
    """``measured``: in words; ``is_reached`` and ``is_beyond``: None where it was not measured, or there is nothing beyond."""

    work: str
    reach: str
    beyond: str
    measured: str
    is_reached: bool | None
    is_beyond: bool | None = None


def goals(document: Document) -> list[Goal]:
    """All of them, in the order of the issue that set them."""
    return [goal for judge in _JUDGES for goal in judge(document)]


def at_most(
    work: str, what: str, value: Spread | None, reach: float | None, beyond: float | None = None, unit: str = "×"
) -> Goal:
    """Of a number that should be small. ``reach``: None where only what lies beyond is set."""
    return _judged(work, what, value, (reach, beyond), "≤", unit)


def at_least(
    work: str, what: str, value: Spread | None, reach: float | None, beyond: float | None = None, unit: str = "×"
) -> Goal:
    """Of a number that should be large."""
    return _judged(work, what, value, (reach, beyond), "≥", unit)


def _judged(work: str, what: str, value: Spread | None, bounds: tuple[float | None, float | None], sign: str, unit: str) -> Goal:
    def words(bound: float | None) -> str:
        return "" if bound is None else " ".join(f"{sign} {bound:,g} {unit} {what}".split())

    def is_in(bound: float | None) -> bool | None:
        if value is None or bound is None:
            return None
        return value.median <= bound if sign == "≤" else value.median >= bound

    reach, beyond = bounds
    measured = "not measured" if value is None else f"{value} {unit}".rstrip()
    return Goal(work, words(reach), words(beyond), measured, is_in(reach), is_in(beyond))


def _float64(document: Document) -> Iterator[Goal]:
    case = largest(document, "product-float64")
    name = case["name"] if case else "float64 product"
    yield at_most(name, "NumPy (load + dot + save)", ratio(case, "numpy"), 1.0)
    yield _against_best(name, case, 0.88)
    yield at_most(name, "NumPy's dot alone", ratio(case, "numpy", part="compute"), None, 1.10)


def _others(document: Document) -> Iterator[Goal]:
    for work in ("product-float32", "product-complex128", "product-wide", "product-deep"):
        case = largest(document, work)
        name = case["name"] if case else work
        worst = worst_ratio(case, PEERS)
        yield at_most(name, f"each peer ({worst[0]} is next)" if worst else "each peer", worst[1] if worst else None, 1.0)
        dot = ratio(case, "numpy", part="compute")
        yield at_least(name, "of the GFLOP/s of NumPy's dot", _inverse(dot), None, 0.9, "")


def _against_best(name: str, case: Case | None, reach: float) -> Goal:
    best = worst_ratio(case, OTHER_ARRAYS)
    return at_most(name, f"the best of the others ({best[0]})" if best else "the others", best[1] if best else None, reach)


def _int64(document: Document) -> Iterator[Goal]:
    for n, reach in ((1000, 3.0), (2000, 10.0)):
        case = named(document, "product-int64", f"[0, 10) {n}²")
        yield at_least(f"int64 digits {n}²", "as fast as NumPy, bit-equal", _inverse(ratio(case, "numpy")), reach)
    limbs = [case for case in cases(document, "product-int64") if "[-2147483648" in case["name"]]
    widest = max(limbs, key=lambda case: case["about"]["flops"], default=None)
    name = widest["name"] if widest else "int64 of int32's range"
    yield at_least(name, "as fast as NumPy, bit-equal", _inverse(ratio(widest, "numpy")), None, 3.0)


def _small(document: Document) -> Iterator[Goal]:
    case = named(document, "small", "100²")
    client, command = typical(case, "client"), typical(case, "command")
    yield at_most("100 × 100 from a connected client", "", _scaled(client, 1e3), 150, 60, "ms")
    more = Spread(command.median - client.median, command.low - client.high, command.high - client.low, command.n) if (
        client and command
    ) else None  # fmt: skip
    yield at_most("the same as a command", "more", _scaled(more, 1e3), 300, None, "ms")


def _add(document: Document) -> Iterator[Goal]:
    case = largest(document, "add")
    yield at_most(case["name"] if case else "sum", "copying the same bytes", ratio(case, "copy"), 1.1)


def _memory(document: Document) -> Iterator[Goal]:
    case = largest(document, "memory")
    name = "a product 16 × the memory"
    yield at_most(name, "the time with plenty", ratio(case, "plenty", ours="little memory"), 1.1)
    budget, peaks = fact(document, "memory", "budget_bytes"), fact(document, "memory", "peak_bytes")
    yield at_most(name, "the budget, at its peak", spread([peak / budget for peak in peaks]) if peaks else None, 1.1)
    yield at_most(name, "the lower bound, bytes moved", bytes_ratio(case, "little memory"), 1.6, 1.3)


def _s3(document: Document) -> Iterator[Goal]:
    case = largest(document, "s3")
    yield _against_best("float64 product in S3", case, 1.0)
    for kind in ("get", "put"):
        clients = named(document, "s3-clients", kind)
        speed = _inverse(ratio(clients, "client-obstore", ours="client-store"))
        yield at_least(f"our S3 client, {kind}", "the raw client's throughput", speed, 0.8)
        yield _cheapest(kind, clients)


def _cheapest(kind: str, case: Case | None) -> Goal:
    gigabytes = case["about"]["objects"] * case["about"]["object_bytes"] / 1e9 if case else 1.0
    per_gb = {peer: spread(cpu_seconds(case, peer)).median / gigabytes for peer in (case["runs"] if case else ())}
    measured = ", ".join(f"{peer.removeprefix('client-')} {short(value)}" for peer, value in sorted(per_gb.items()))
    is_lowest = min(per_gb, key=lambda peer: per_gb[peer]) == "client-store" if per_gb else None
    return Goal(f"our S3 client, {kind}", "", "fewest CPU-seconds per GB", measured or "not measured", None, is_lowest)


def _csv(document: Document) -> Iterator[Goal]:
    for kind, theirs in (("in", "reader"), ("out", "writer")):
        case = named(document, "csv", kind)
        cores = case["about"]["cores"] if case else {}
        share = _scaled(_inverse(ratio(case, "pyarrow")), cores.get("pyarrow", 1) / cores.get("tilefleet", 1))
        yield at_least(f"CSV {kind}, per core", f"pyarrow's {theirs}", share, 0.8)


def _nodes(document: Document) -> Iterator[Goal]:
    yield at_least("1 → 4 nodes", "as fast", speed_up(cases(document, "nodes")), 3.6, 3.8)


def speed_up(found: list[Case]) -> Spread | None:
    """Of four nodes against one; cases are named by their number of nodes."""
    by_nodes = {case["about"]["nodes"]: case["runs"].get("tilefleet", []) for case in found}
    one, four = ([run["s"] for run in by_nodes.get(n, [])] for n in (1, 4))
    return spread([a / b for a, b in zip(one, four, strict=False)]) if one and four else None


def _scale(document: Document) -> Iterator[Goal]:
    from benchmarks.works.scale import measures

    found = [run for case in cases(document, "scale") for run in runs(case, "scheduler")]
    values = [measures(run) for run in found]
    name = cases(document, "scale")[0]["name"] if found else "10,000 simulated workers"

    def of(key: str) -> Spread | None:
        return spread([value[key] for value in values]) if values else None

    yield at_most(name, "on one core", spread([run["cpu_s"] for run in found]) if found else None, 180, 60, "s")
    yield at_most(name, "the ideal makespan", of("makespan_per_ideal"), None, 1.1)
    yield at_most(name, "of memory", of("peak_mb"), 200, None, "MB")
    yield at_least(name, "in the scheduler", of("events_per_s"), 50_000, None, "events/s")
    per_job = at_most(name, "per job in the scheduler", of("scheduler_ms_per_job"), 0.05, None, "ms")
    yield per_job._replace(measured=f"{per_job.measured}, and {of('beacon_ms_per_job')} ms in the beacon") if found else per_job


def _coordinator(document: Document) -> Iterator[Goal]:
    values = [run["facts"]["ms_per_job"] for case in cases(document, "coordinator") for run in runs(case, "tilefleet")]
    yield at_most("the whole coordinator", "of CPU per job", spread(values) if values else None, 1.5, 1.0, "ms")


def _predicted(document: Document) -> Iterator[Goal]:
    case = largest(document, "product-float64")
    told = [(run["facts"].get("predicted_s"), run["s"]) for run in runs(case, "tilefleet")]
    off = [abs(predicted / took_s - 1) * 100 for predicted, took_s in told if predicted]
    yield at_most("what `plan` predicts", "off", spread(off) if off else None, 20, None, "%")


def bytes_ratio(case: Case | None, peer: str) -> Spread | None:
    """Bytes moved over the least that the memory of a worker allows, as it told: 2mnk/√S elements, and every matrix once."""
    found = [run["facts"] for run in runs(case, peer) if run["facts"].get("workers")]
    if case is None or not found:
        return None
    least = least_bytes(case["about"], found[0]["workers"][0]["memory_bytes"])
    return spread([(facts["totals"]["bytes_read"] + facts["totals"]["bytes_written"]) / least for facts in found])


def least_bytes(about: dict[str, Any], memory_bytes: int) -> float:
    """For a product of elements of eight bytes, in a memory of that size."""
    m, k, n = about["m"], about["k"], about["n"]
    return float(8 * max(2 * m * n * k / math.sqrt(memory_bytes / 8), m * k + k * n + m * n))


def _inverse(value: Spread | None) -> Spread | None:
    return Spread(1 / value.median, 1 / value.high, 1 / value.low, value.n) if value else None


def _scaled(value: Spread | None, factor: float) -> Spread | None:
    return Spread(value.median * factor, value.low * factor, value.high * factor, value.n) if value else None


_JUDGES: tuple[Callable[[Document], Iterator[Goal]], ...] = (
    _float64, _others, _int64, _small, _add, _memory, _s3, _csv, _nodes, _coordinator, _scale, _predicted,
)  # fmt: skip
