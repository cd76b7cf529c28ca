"""What a machine says of itself, and what keeps it from becoming a node."""

from __future__ import annotations

import re
from typing import Any

import pytest

from coordinator.fleet.setup.inspection import Facts, objection, parse

SAID = """\
user=root
architecture=x86_64
system=amzn 2023
glibc=glibc 2.34
systemd=systemd 252 (252.23-3.amzn2023)
memory=MemTotal:        7969168 kB
cores=4
clock=1795383763
disk=/dev/nvme0n1p1  16699392 1660100 15039292      10% /
python=3.12 /usr/bin/python3.12
release=0.1.0+3f9c2e71
releases=0.1.0+3f9c2e71
wheelhouses=0f0d
releases=0.1.0+00000001
wheelhouses=0f0e
uploads=wheels-0f0d
"""
FACTS = Facts(
    architecture="x86_64",
    system="amzn 2023",
    python="3.12",
    python_path="/usr/bin/python3.12",
    glibc=(2, 34),
    systemd=252,
    memory_bytes=7969168 * 1024,
    disk_free_bytes=15039292 * 1024,
    cores=4,
    clock=1795383763.0,
    user="root",
    release="0.1.0+3f9c2e71",
    releases=("0.1.0+3f9c2e71", "0.1.0+00000001"),
    wheelhouses=("0f0d", "0f0e"),
    uploads=("wheels-0f0d",),
)


def test_facts_come_from_lines() -> None:
    assert parse(SAID) == FACTS
    assert objection(FACTS, 10**9, FACTS.clock + 30) == ""


def test_noise_is_no_fact() -> None:
    assert parse("Welcome!\nuser\n= \nmemory=much\ndisk=/dev/sda1\nglibc=musl\n") == Facts()


def test_other_names_of_an_architecture() -> None:
    assert parse("architecture=arm64").architecture == "aarch64"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"user": "admin"}, r"run as admin there, not as root: give the user sudo"),
        ({"systemd": 0}, r"systemd does not run there"),
        ({"systemd": 219}, r"its systemd is 219; 240 or newer"),
        ({"architecture": "armv7l"}, r"its processor is armv7l"),
        ({"glibc": (2, 26)}, r"its C library is glibc 2.26; glibc 2.28 or newer is needed"),
        ({"glibc": (0, 0)}, r"its C library is not glibc"),
        ({"memory_bytes": 200 * 2**20}, r"it has 200.0 MiB of memory"),
        ({"disk_free_bytes": 10**8}, r"its disk is full: 95.4 MiB are free under /opt, 953.7 MiB are needed"),
        ({"clock": FACTS.clock - 900}, r"its clock is 900 s behind of the one here, and AWS refuses"),
    ],
)
def test_what_keeps_it_from_becoming_a_node(change: dict[str, Any], sentence: str) -> None:
    said = objection(FACTS._replace(**change), 10**9, FACTS.clock)
    assert re.search(sentence, said), said
