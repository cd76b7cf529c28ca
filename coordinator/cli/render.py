"""Records and statuses as text for people: pure functions, no colour, no width beyond what the data needs.

Times of day come with the zone to show them in; ``now`` and everything else that changes is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo

from tilefleet.errors import BadInput, printable
from tilefleet.matrix import MatrixRef, Operand, place_text
from tilefleet.quantities import format_bytes, format_seconds
from tilefleet.records import OperationRecord, OperationStatus

PHASES = ("submit", "ingest", "plan", "queue_wait", "compute", "commit", "verify", "export", "total")
_RATES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def table(rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), indent: str = "", gap: str = "  ") -> str:
    """Rows of cells, aligned; columns whose index is in ``right`` end together, the others begin together."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((indent + gap.join(cells)).rstrip())
    return "\n".join(lines)


def shape_text(shape: tuple[int, int] | None) -> str:
    """``2000 × 300``."""
    return "? × ?" if shape is None else f"{shape[0]} × {shape[1]}"


def matrix_text(ref: MatrixRef) -> str:
    """``2000 × 300 float64``; what a CSV file has is not known before it was read."""
    return "CSV, shape not known yet" if ref.shape is None else f"{shape_text(ref.shape)} {ref.dtype}"


def rate_text(per_s: float, unit: str) -> str:
    """8.13e9, "FLOP/s" → ``8.1 GFLOP/s``."""
    for scale, prefix in _RATES:
        if per_s >= scale or scale == 1.0:
            return f"{per_s / scale:.3g} {prefix}{unit}"
    return ""


def count_text(number: int, noun: str) -> str:
    """``1 job``, ``3 jobs``."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def when_text(at_s: float, zone: tzinfo | None = None) -> str:
    """Time of day of a record, in ``zone`` (None: this machine's)."""
    return datetime.fromtimestamp(at_s, zone).strftime("%Y-%m-%d %H:%M:%S") if at_s else "–"


def age_text(at_s: float, now_s: float) -> str:
    """``5 m``: how long ago, in its largest unit."""
    seconds = max(0.0, now_s - at_s)
    return f"{seconds:.0f} s" if seconds < 60 else " ".join(format_seconds(seconds).split()[:2])


def expression(record: OperationRecord) -> str:
    """What was asked for, as a formula over file names: ``2 · a.npy @ b.csvᵀ + 0.5 · c.npy``."""
    a, b, c = (_operand(record, name) for name in "abc")
    scaled = f"{record.alpha} · " if record.alpha is not None else ""
    if record.kind == "multiply":
        added = f" + {f'{record.beta} · ' if record.beta is not None else ''}{c}" if c else ""
        return f"{scaled}{a} @ {b}{added}"
    if record.kind in ("add", "subtract"):
        return f"{a} {'+' if record.kind == 'add' else '−'} {b}"
    if record.kind == "random" and record.random:
        spec = record.random
        return f"{shape_text(spec.shape)} {spec.dtype} in [{spec.low}, {spec.high}), seed {spec.seed}"
    if record.kind == "verify":
        return f"{record.verifies}: {a}{f' and {b}' if b else ''}" if a else str(record.verifies)
    if record.kind == "convert":
        return f"{a} → {_name(out) if (out := record.out.url or record.names.get('out')) else record.out.format}"
    return f"{scaled}{a}"


def state_text(status: OperationStatus | None) -> str:
    """``running 12/36``, ``done`` …"""
    if status is None:
        return "submitted"
    total = sum(stage.n_jobs for stage in status.stages)
    done = sum(stage.n_done for stage in status.stages)
    return f"running {done}/{total}" if status.state == "running" and total else status.state


def listing(found: Sequence[tuple[OperationRecord, OperationStatus | None]], now_s: float) -> str:
    """``tilefleet list``: newest first."""
    rows = [("ID", "STATE", "KIND", "WHAT", "RESULT", "TIME", "AGE")]
    for record, status in found:
        result = shape_text(status.result.shape) if status and status.result else ""
        total = format_seconds(status.phases_s["total"]) if status and "total" in status.phases_s else ""
        what = _shortened(expression(record), 48)
        rows.append((record.id, state_text(status), record.kind, what, result, total, age_text(record.submitted_at, now_s)))
    return table(rows, right=(5, 6))


def chosen_phases(text: str) -> tuple[str, ...]:
    """The phases of ``--time``. Raises BadInput for one that does not exist."""
    names = [name.strip().replace(" ", "_").replace("-", "_") for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return PHASES
    if names == ["none"]:
        return ()
    for name in names:
        if name not in PHASES:
            raise BadInput(f"--time knows no phase {name!r}; choose from {', '.join(PHASES)}, or all, or none")
    return tuple(phase for phase in PHASES if phase in names)


def times(phases_s: Mapping[str, float], chosen: Sequence[str] = PHASES, numpy_s: Mapping[str, float] | None = None) -> str:
    """The table of times by phase; with NumPy's beside them when they were measured."""
    shown = [phase for phase in chosen if phase in phases_s or (numpy_s and phase in numpy_s)]
    if not shown:
        return ""
    rows = [("phase", "time", *(["NumPy here"] if numpy_s else []))]
    for phase in shown:
        own = format_seconds(phases_s[phase]) if phase in phases_s else ""
        theirs = format_seconds(numpy_s[phase]) if numpy_s and phase in numpy_s else ""
        rows.append((phase.replace("_", " "), own, *([theirs] if numpy_s else [])))
    return table(rows, right=(1, 2), indent="  ", gap="   ")


def report(
    record: OperationRecord, status: OperationStatus, *, kept_for: str = "", zone: tzinfo | None = None, place: str | None = None
) -> str:
    """A finished operation: what it was, where the result is, how it was checked. ``place``: where the client saved it."""
    rows = []
    where = place or (place_text(record.out.url) if record.out.url else None)
    if status.result is not None:
        rows.append(("result", f"{matrix_text(status.result)}{f' in {where}' if where else ''}"))
        if where is None:
            rows += [("", place_text(status.result.url)), ("kept", _kept(status, kept_for, zone))]
            rows.append(("fetch", f"tilefleet get {record.id} OUT"))
    if status.verdict:
        rows.append(("verdict", status.verdict))
    if checked := check_text(status):
        rows.append(("checked", checked))
    if rate := _rate(status):
        rows.append(("rate", rate))
    return f"{record.kind} {record.id}: {expression(record)}\n" + table(rows, indent="  ")


def details(record: OperationRecord, status: OperationStatus | None, *, zone: tzinfo | None = None) -> str:
    """``tilefleet show``: everything that is known."""
    rows = [("id", record.id), ("kind", record.kind), ("what", expression(record)), ("state", state_text(status))]
    for name, operand in (("A", record.a), ("B", record.b), ("C", record.c)):
        if operand is not None:
            turned = ", transposed" if operand.is_transposed else ""
            place = record.names.get(name.lower()) or place_text(operand.matrix.url)
            rows.append((name, f"{place} ({matrix_text(operand.matrix)}{turned})"))
    if record.out.url:
        rows.append(("out", place_text(record.out.url)))
    elif "out" in record.names:
        rows.append(("out", f"{record.names['out']} (workers cannot see it: whoever waits fetches the result)"))
    if status is not None:
        rows += _status_rows(status, zone)
    rows.append(
        ("submitted", when_text(record.submitted_at, zone) + (f" by {record.submitted_by}" if record.submitted_by else ""))
    )
    if record.command:
        rows.append(("command", record.command))
    parts = [table(rows)]
    if status is not None:
        parts += [_stages(status), times(status.phases_s)]
    return "\n\n".join(part for part in parts if part)


def check_text(status: OperationStatus) -> str:
    """How the results of the jobs were proved."""
    totals = status.totals
    if not totals.checked_jobs:
        return ""
    blocks = count_text(totals.checked_jobs, "block")
    if totals.check_worst:
        return f"{blocks} against their operands; worst residual {totals.check_worst:.2g} of what rounding may cause"
    return f"{blocks} against their operands, exactly"


def wrong_text(status: OperationStatus) -> str:
    """Whose results were not believed."""
    by_worker = ", ".join(f"{count} of {worker}" for worker, count in sorted(status.wrong_results.items()))
    return f"results that did not pass their check, and were computed again: {by_worker}" if by_worker else ""


def _status_rows(status: OperationStatus, zone: tzinfo | None) -> list[tuple[str, str]]:
    rows = []
    if status.result is not None:
        rows.append(("result", f"{place_text(status.result.url)} ({matrix_text(status.result)})"))
    if status.expires_at is not None:
        rows.append(("kept until", when_text(status.expires_at, zone)))
    optional = (
        ("note", status.note),
        ("verdict", status.verdict),
        ("checked", check_text(status)),
        ("wrong", wrong_text(status)),
        ("error", f"{status.error.sentence} [{status.error.code}]" if status.error else ""),
        ("moved", _moved(status)),
        ("rate", _rate(status)),
        ("workers", ", ".join(status.workers)),
        ("finished", when_text(status.finished_at, zone) if status.finished_at else ""),
    )
    return rows + [(name, text) for name, text in optional if text]


def _stages(status: OperationStatus) -> str:
    if not status.stages:
        return ""
    rows = [("stage", "jobs", "running", "elapsed")]
    for stage in status.stages:
        running = "" if status.is_ended or not stage.n_running else str(stage.n_running)
        rows.append((stage.name, f"{stage.n_done}/{stage.n_jobs}", running, format_seconds(stage.elapsed_s)))
    return table(rows, right=(1, 2, 3), indent="  ", gap="   ")


def _kept(status: OperationStatus, kept_for: str, zone: tzinfo | None) -> str:
    if status.expires_at is None:
        return "until it is deleted"
    return f"until {when_text(status.expires_at, zone)}" + (f" ({kept_for})" if kept_for else "")


def _moved(status: OperationStatus) -> str:
    totals = status.totals
    if not totals.bytes_read and not totals.bytes_written:
        return ""
    return f"{format_bytes(totals.bytes_read)} read, {format_bytes(totals.bytes_written)} written by the workers"


def _rate(status: OperationStatus) -> str:
    elapsed = status.phases_s.get("compute", 0.0) if status.kind == "multiply" else 0.0  # sums wait for memory, not arithmetic
    return rate_text(status.totals.flops / elapsed, "FLOP/s") if status.totals.flops and elapsed > 0 else ""


def _operand(record: OperationRecord, name: str) -> str:
    operand: Operand | None = getattr(record, name)
    if operand is None:
        return ""
    return _name(record.names.get(name) or operand.matrix.url) + ("ᵀ" if operand.is_transposed else "")


def _name(url: str) -> str:
    path = place_text(url).rstrip("/")
    staged = re.search(r"staging/[0-9a-z]{12}/([abc])$", path)
    if staged:
        return f"uploaded {staged[1].upper()}"
    inside = re.search(r"(?:matrices|operations)/([0-9a-z]{12})(?:/|$)", path)
    return path.rsplit("/", 1)[-1] if not inside or path.endswith((".npy", ".csv", ".gz", ".zarr")) else f"result of {inside[1]}"


def _shortened(text: str, columns: int) -> str:
    return text if len(text) <= columns else text[: columns - 1] + "…"
