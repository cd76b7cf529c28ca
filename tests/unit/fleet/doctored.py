"""Patients of the tests of doctor: a laptop, a host and configurations of fleets, all well."""

from __future__ import annotations

from coordinator.fleet.doctor.findings import Finding
from coordinator.fleet.doctor.judgements import hosts
from coordinator.fleet.doctor.judgements.machine import Measured
from tilefleet.config import Config, parse

GIB = 2**30
LAPTOP = Measured(16 * GIB, 8 * GIB, GIB, "/home/me", 100 * GIB, 1024, (3, 12, 4), ("openblas 0.3.29",))

SAID = """\
system=Debian GNU/Linux 12 (bookworm)
architecture=x86_64
memory_kib=8000000
cores=4
free_disk_kib=20000000
python=3.11.2
systemd=1
now=1000.75
"""
HOST = hosts.parse(SAID, asked_at=999.0, answered_at=1001.0)


def fleet(text: str = "") -> Config:
    """A configuration of a fleet on EC2; ``text``: lines of [ec2], then other sections."""
    lines = f'[fleet]\nkind = "remote"\n[store]\nurl = "s3://b/p"\n[ec2]\n{text}\n'
    if "[nodes]" not in text:
        lines += '[nodes]\nprovider = "ec2"\n'
    config, mistakes = parse(lines)
    assert mistakes == [], mistakes
    return config


def states(findings: list[Finding]) -> list[str]:
    return [finding.state for finding in findings]
