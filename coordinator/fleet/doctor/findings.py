"""What a check found. Pure.

The rule: a finding says what is so, with its figure, and what to do about it when that is not good. A failure is what would keep
a fleet from working; a warning is what a person should know before they pay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

State = Literal["ok", "warning", "failure", "skipped"]


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check."""

    area: str
    """What it is listed under: machine, credentials, permissions …"""
    check: str
    """A word or two: ``clock``, ``disk of 10.0.0.11``."""
    state: State
    sentence: str
    mend: str = ""
    """What to do; not empty for warnings and failures."""


def ok(area: str, check: str, sentence: str) -> Finding:
    return Finding(area, check, "ok", sentence)


def warning(area: str, check: str, sentence: str, mend: str) -> Finding:
    return Finding(area, check, "warning", sentence, mend)


def failure(area: str, check: str, sentence: str, mend: str) -> Finding:
    return Finding(area, check, "failure", sentence, mend)


def skipped(area: str, check: str, sentence: str) -> Finding:
    """Could not be asked, or does not concern this configuration; no judgement."""
    return Finding(area, check, "skipped", sentence)


def of_error(area: str, check: str, error: Exception) -> Finding:
    """A failure from one of our errors, whose sentences end with the way out."""
    sentence, _, mend = str(error).partition("; ")
    return failure(area, check, sentence, mend or "try again; if it stays, say tilefleet doctor --debug")


def is_healthy(findings: Iterable[Finding]) -> bool:
    return all(finding.state != "failure" for finding in findings)
