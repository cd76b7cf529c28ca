"""What a node says about itself, and what has to be so.

Pure. The node prints ``name=value`` lines; what is not understood is left at its default, which the checks then name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from coordinator.fleet.setup.places import CACHE, LINK, PYTHONS, RELEASES
from coordinator.fleet.setup.requirements import KNOWN_GOOD
from tilefleet.quantities import format_bytes

GLIBC = (2, 28)  # the wheels of our dependencies need no newer one
SYSTEMD = 240  # 2018; every setting of the units is known there, or ignored with a warning in the journal
SMALLEST_MEMORY = 400 * 2**20  # a worker needs about 300 MiB
NEW_RELEASE_BYTES = 800 * 2**20  # an installed release: 550 MiB, and room to work
UPLOADED_BYTES = 320 * 2**20  # the archive and its wheels, for as long as both are there
CLOCK_S = 240.0  # AWS refuses requests that are signed five minutes off


class Facts(NamedTuple):
    """What a node says about itself."""

    architecture: str = ""
    """``x86_64`` or ``aarch64``."""
    system: str = ""
    """ID and VERSION_ID of os-release: ``debian 12``, ``amzn 2023``."""
    python: str = ""
    """Version of the best Python there that will do: ``3.11``; empty when there is none."""
    python_path: str = ""
    glibc: tuple[int, int] = (0, 0)
    systemd: int = 0
    memory_bytes: int = 0
    disk_free_bytes: int = 0
    """Where releases are installed."""
    cores: int = 0
    clock: float = 0.0
    """Its time of day, in seconds since 1970."""
    user: str = ""
    release: str = ""
    """What /opt/tilefleet points to."""
    releases: tuple[str, ...] = ()
    """All that are installed completely."""
    wheelhouses: tuple[str, ...] = ()
    """Digests of the dependencies that they have."""
    uploads: tuple[str, ...] = ()
    """Names in /var/cache/tilefleet: what of our uploads is there already."""


INSPECT = rf"""
say() {{ printf '%s=%s\n' "$1" "$2"; }}
say user "$(id -un)"
say architecture "$(uname -m)"
if [ -r /etc/os-release ]; then (. /etc/os-release; say system "$ID ${{VERSION_ID:-}}"); fi
say glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null || echo none)"
if [ -d /run/systemd/system ]; then say systemd "$(systemctl --version | head -n 1)"; fi
say memory "$(grep MemTotal: /proc/meminfo)"
say cores "$(getconf _NPROCESSORS_ONLN)"
say clock "$(date +%s)"
say disk "$(df -P -k /opt | tail -n 1)"
for version in {" ".join(KNOWN_GOOD)}; do
  for python in {PYTHONS}/*/bin/python"$version" "$(command -v python"$version" || true)" \
    "$(command -v python3 || true)"; do
    if [ -x "$python" ] && found=$("$python" -c '
import ctypes, hashlib, lzma, sqlite3, ssl, sys, venv
print("%d.%d" % sys.version_info[:2], sys.maxsize > 2**32)' 2>/dev/null) && [ "$found" = "$version True" ]; then
      say python "$version $python"; break 2
    fi
  done
done
if [ -L {LINK} ]; then say release "$(basename "$(readlink {LINK})")"; fi
for base in {RELEASES}/*/; do
  if [ -f "$base/.complete" ] && "$base/bin/python" -c '' 2>/dev/null; then
    say releases "$(basename "$base")"
    say wheelhouses "$(cat "$base/.complete")"
  fi
done
for upload in {CACHE}/*; do
  if [ -f "$upload" ] || [ -f "$upload/.complete" ]; then say uploads "$(basename "$upload")"; fi
done
"""


def parse(output: str) -> Facts:
    """The facts in what ``INSPECT`` printed."""
    values: dict[str, list[str]] = {}
    for line in output.splitlines():
        name, is_fact, value = line.partition("=")
        if is_fact:
            values.setdefault(name, []).append(value.strip())

    def first(name: str) -> str:
        return values.get(name, [""])[0]

    python, _, path = first("python").partition(" ")
    disk = first("disk").split()
    return Facts(
        architecture={"amd64": "x86_64", "arm64": "aarch64"}.get(first("architecture"), first("architecture")),
        system=first("system"),
        python=python,
        python_path=path,
        glibc=_glibc(first("glibc")),
        systemd=_number(first("systemd")),
        memory_bytes=_number(first("memory")) * 1024,
        disk_free_bytes=int(disk[3]) * 1024 if len(disk) > 3 and disk[3].isdecimal() else 0,
        cores=_number(first("cores")),
        clock=float(_number(first("clock"))),
        user=first("user"),
        release=first("release"),
        releases=tuple(values.get("releases", ())),
        wheelhouses=tuple(values.get("wheelhouses", ())),
        uploads=tuple(values.get("uploads", ())),
    )


def objection(facts: Facts, needed_bytes: int, now: float) -> str:
    """Why this machine cannot become a node, in a sentence; empty when it can."""
    return _about_its_system(facts) or _about_its_size(facts, needed_bytes) or _about_its_clock(facts.clock - now)


def _about_its_system(facts: Facts) -> str:
    if facts.user != "root":
        return f"commands run as {facts.user or 'nobody'} there, not as root: give the user sudo without a password"
    if not facts.systemd:
        return "systemd does not run there: a node needs it as its init"
    if facts.systemd < SYSTEMD:
        return f"its systemd is {facts.systemd}; {SYSTEMD} or newer is needed"
    if facts.architecture not in {"x86_64", "aarch64"}:
        return f"its processor is {facts.architecture or 'unknown'}; there are packages for x86_64 and aarch64"
    if facts.glibc < GLIBC:
        found = f"glibc {facts.glibc[0]}.{facts.glibc[1]}" if any(facts.glibc) else "not glibc"
        known = "Debian 10, Ubuntu 20.04, Amazon Linux 2023 and everything newer have it"
        return f"its C library is {found}; glibc {GLIBC[0]}.{GLIBC[1]} or newer is needed ({known})"
    return ""


def _about_its_size(facts: Facts, needed_bytes: int) -> str:
    if facts.memory_bytes < SMALLEST_MEMORY:
        return f"it has {format_bytes(facts.memory_bytes)} of memory; a worker needs {format_bytes(SMALLEST_MEMORY)}"
    if facts.disk_free_bytes < needed_bytes:
        free = format_bytes(facts.disk_free_bytes)
        return f"its disk is full: {free} are free under /opt, {format_bytes(needed_bytes)} are needed"
    return ""


def _about_its_clock(ahead_s: float) -> str:
    if abs(ahead_s) <= CLOCK_S:
        return ""
    off = f"{abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'behind'} of the one here"
    return f"its clock is {off}, and AWS refuses requests that are five minutes off: set it, and run chrony or systemd-timesyncd"


def _number(text: str) -> int:
    found = re.search(r"[0-9]+", text)
    return int(found[0]) if found else 0


def _glibc(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"glibc (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
