"""``tilefleet doctor``: the findings as a list for people, or as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from coordinator.cli.door import command
from coordinator.cli.render import count_text
from coordinator.cli.session import Session, run

if TYPE_CHECKING:
    from coordinator.fleet.doctor.findings import Finding

UNHEALTHY = 14
MARKS = {"ok": "✓", "warning": "!", "failure": "✗", "skipped": "–"}


@command(
    "doctor",
    under="Set-up",
    examples=(
        ("tilefleet doctor", "this machine, or the fleet of ./tilefleet.toml"),
        ("tilefleet --config fleet.toml doctor", "everything that fleet up needs, before it costs anything"),
        ("tilefleet doctor --json", "for scripts; the exit code is 0 unless something fails"),
    ),
)
def doctor(session: Session) -> None:
    """Check what could go wrong, and say how to mend it.

    This machine; with a fleet's configuration also network and clock, credentials, permissions, quotas, prices, instance types
    and image, keys, the machines of [hosts], store, queues and versions. Launches nothing and spends next to nothing (some
    dozens of requests); one small object is written to the store and removed. Exit code 14 when something fails.
    """
    from coordinator.fleet.doctor.examination import examine
    from coordinator.fleet.doctor.findings import is_healthy

    findings = run(examine(session.config()))
    session.show(as_text(findings), document(session.config_source(), findings))
    if not is_healthy(findings):
        raise typer.Exit(UNHEALTHY)


def as_text(findings: Sequence[Finding]) -> str:
    """An aligned list, area by area; what to do stands below what is wrong."""
    column = max((len(finding.check) for finding in findings), default=0)
    lines, area = [], ""
    for finding in findings:
        if finding.area != area:
            lines += ["", finding.area] if lines else [finding.area]
            area = finding.area
        first, *rest = finding.sentence.splitlines() or [""]
        lines.append(f"  {MARKS[finding.state]} {finding.check:<{column}}  {first}".rstrip())
        lines += [f"    {'':<{column}}  {line}" for line in rest]
        if finding.mend:
            lines.append(f"    {'':<{column}}  → {finding.mend}")
    return "\n".join([*lines, "", summary(findings)])


def summary(findings: Sequence[Finding]) -> str:
    """``2 failures, 1 warning, 14 checks in all``."""
    failures, warnings = (sum(one.state == state for one in findings) for state in ("failure", "warning"))
    if not failures and not warnings:
        return f"{count_text(len(findings), 'check')}, all well"
    return f"{count_text(failures, 'failure')}, {count_text(warnings, 'warning')}, {count_text(len(findings), 'check')} in all"


def document(source: str, findings: Sequence[Finding]) -> dict[str, object]:
    """The same for programs."""
    import msgspec

    from coordinator.fleet.doctor.findings import is_healthy

    return {"config": source, "is_healthy": is_healthy(findings), "findings": [msgspec.to_builtins(one) for one in findings]}
