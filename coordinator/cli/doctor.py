"""``tilefleet doctor``: the findings as a list for people, or as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.door import command
from coordinator.cli.render import count_text
from coordinator.cli.session import Session, run
from tilefleet.errors import BadConfig

if TYPE_CHECKING:
    from coordinator.fleet.doctor.findings import Finding
    from tilefleet.config import Config

UNHEALTHY = 14
MANAGED_POLICY_CHARACTERS = 6144  # IAM quota, blanks not counted
POLICIES = ("use", "fleet", "coordinator", "node")
PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="WHO",
        help="Check nothing: print an IAM policy for this configuration. use: clients of the fleet; fleet: who makes and removes "
        "it, besides; coordinator, node: its machines.",
    ),
]
MARKS = {"ok": "✓", "warning": "!", "failure": "✗", "skipped": "–"}


@command(
    "doctor",
    under="Set-up",
    examples=(
        ("tilefleet doctor", "this machine, or the fleet of ./tilefleet.toml"),
        ("tilefleet doctor --config fleet.toml", "everything that fleet up needs, before it costs anything"),
        ("tilefleet doctor --policy fleet --config fleet.toml", "what an administrator has to allow who says fleet up"),
        ("tilefleet doctor --json", "for scripts; the exit code is 0 unless something fails"),
    ),
)
def doctor(session: Session, policy: PolicyOption = None) -> None:
    """Check what could go wrong, and say how to mend it.

    This machine; with a fleet's configuration also network and clock, credentials, permissions, quotas, prices, instance types
    and image, keys, the machines of [hosts], store, queues and versions. Launches nothing and spends next to nothing (some
    dozens of requests); one small object is written to the store and removed. Exit code 14 when something fails.
    """
    if policy is not None:
        text = policy_text(session.config(), policy)
        session.say(text)
        if len("".join(text.split())) > MANAGED_POLICY_CHARACTERS:
            session.remark(f"IAM takes {MANAGED_POLICY_CHARACTERS:,} characters in a managed policy: put its statements into two")
        return
    from coordinator.fleet.doctor.examination import examine
    from coordinator.fleet.doctor.findings import is_healthy

    findings = run(examine(session.config()))
    session.show(as_text(findings), document(session.config_source(), findings))
    if not is_healthy(findings):
        raise typer.Exit(UNHEALTHY)


def policy_text(config: Config, who: str) -> str:
    """A policy document as JSON. Asks STS for the account's number, nothing else. Raises BadConfig without a store in S3."""
    import json
    from typing import cast

    from coordinator.fleet import policies
    from tilefleet import aws
    from tilefleet.account import identity, resolved

    if who not in POLICIES:
        raise typer.BadParameter(f"{who!r} is none of {', '.join(POLICIES)}", param_hint="--policy")
    if config.fleet.kind != "remote":
        raise BadConfig("there are no permissions on this machine alone; name a fleet's configuration with --config")
    region = aws.region_of(config.ec2.region, config.store.region)
    account = run(identity(region, config.ec2.endpoint_url)).account
    facts = policies.facts_of(resolved(config), account)
    if who in {"use", "fleet"}:
        return json.dumps(policies.use_only(policies.policy("client", facts), is_use=who == "use"), indent=2)
    return json.dumps(policies.policy(cast("policies.PolicyName", who), facts), indent=2)


def as_text(findings: Sequence[Finding]) -> str:
    """An aligned list, area by area; what to do stands below what is wrong."""
    column = max((len(finding.check) for finding in findings), default=0)
    lines: list[str] = []
    area = ""
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
    counts = [(sum(one.state == state for one in findings), state) for state in ("failure", "warning")]
    bad = ", ".join(count_text(number, state) for number, state in counts if number)
    checks = count_text(len(findings), "check")
    return f"{bad}, {checks} in all" if bad else f"{checks}, all well"


def document(source: str, findings: Sequence[Finding]) -> dict[str, object]:
    """The same for programs."""
    import msgspec

    from coordinator.fleet.doctor.findings import is_healthy

    return {"config": source, "is_healthy": is_healthy(findings), "findings": [msgspec.to_builtins(one) for one in findings]}
