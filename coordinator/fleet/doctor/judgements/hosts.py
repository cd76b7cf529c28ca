"""What a machine of yours says about itself, before anything is installed on it."""

from __future__ import annotations

from typing import NamedTuple

from coordinator.fleet.doctor.findings import Finding, failure, ok, warning
from tilefleet.config import Config
from tilefleet.quantities import format_bytes, format_seconds

AREA = "hosts"
MIB = 2**20
DISK_BYTES = 1536 * MIB  # a venv with all packages, twice while a new release is installed
TIGHT_DISK_BYTES = 3 * 1024 * MIB
LEAST_MEMORY_BYTES = 700 * MIB
SKEW_FAILS_S = 300.0  # AWS refuses what was signed five minutes off


class Host(NamedTuple):
    """What ``PROBE`` printed."""

    system: str
    architecture: str
    memory_bytes: int
    cores: int
    free_disk_bytes: int
    """Where /opt is."""
    python: str
    """Newest python3 that was found; empty: none."""
    has_systemd: bool
    offset_s: float
    """How far its clock is ahead of ours."""


PROBE = """\
set -u
. /etc/os-release 2>/dev/null || PRETTY_NAME=unknown
echo "system=$PRETTY_NAME"
echo "architecture=$(uname -m)"
echo "memory_kib=$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)"
echo "cores=$(getconf _NPROCESSORS_ONLN)"
echo "free_disk_kib=$(df -Pk /opt 2>/dev/null | awk 'NR==2 {print $4}')"
for python in python3.14 python3.13 python3.12 python3.11 python3; do
  if command -v $python >/dev/null; then
    echo "python=$($python -c 'import platform; print(platform.python_version())')"
    break
  fi
done
if [ -d /run/systemd/system ]; then echo systemd=1; else echo systemd=0; fi
echo "now=$(date +%s.%N)"
"""


def parse(output: str, *, asked_at: float, answered_at: float) -> Host:
    """``PROBE``'s output; the clock is compared with the middle of the time it took."""
    said = dict(line.partition("=")[::2] for line in output.splitlines() if "=" in line)
    now = said.get("now", "")
    theirs = float(now) if now.replace(".", "", 1).isdigit() else (asked_at + answered_at) / 2
    return Host(
        system=said.get("system", "unknown"),
        architecture=said.get("architecture", "unknown"),
        memory_bytes=_number(said.get("memory_kib")) * 1024,
        cores=_number(said.get("cores")),
        free_disk_bytes=_number(said.get("free_disk_kib")) * 1024,
        python=said.get("python", ""),
        has_systemd=said.get("systemd") == "1",
        offset_s=theirs - (asked_at + answered_at) / 2,
    )


def judge(address: str, host: Host, config: Config) -> list[Finding]:
    """Everything about one machine: one line when all is well, else one for each thing that is not."""
    troubles = [
        *_system(address, host),
        *_disk(address, host),
        *_memory(address, host, config),
        *_clock(address, host),
    ]
    has = (
        f"{host.system}, {host.architecture}, {host.cores} cores, {format_bytes(host.memory_bytes)}, "
        f"{format_bytes(host.free_disk_bytes)} free, {f'Python {host.python}' if host.python else 'a Python will be brought'}"
    )
    return troubles or [ok(AREA, address, has)]


def _system(address: str, host: Host) -> list[Finding]:
    found = []
    if not host.has_systemd:
        mend = "use machines that are run by systemd; containers often are not"
        found.append(failure(AREA, address, f"no systemd runs there ({host.system})", mend))
    if host.architecture not in {"x86_64", "aarch64", "arm64"}:
        mend = "use x86-64 or arm64 machines: there are no packages for others"
        found.append(failure(AREA, address, f"its processor is {host.architecture}", mend))
    return found


def _disk(address: str, host: Host) -> list[Finding]:
    has = f"{format_bytes(host.free_disk_bytes)} free on the disk of /opt"
    if host.free_disk_bytes < DISK_BYTES:
        return [failure(AREA, address, has, f"free space there: an installation takes {format_bytes(DISK_BYTES)}")]
    if host.free_disk_bytes < TIGHT_DISK_BYTES:
        return [warning(AREA, address, has, "free space there: updates keep the release before beside the new one")]
    return []


def _memory(address: str, host: Host, config: Config) -> list[Finding]:
    has, wanted = format_bytes(host.memory_bytes), config.worker.memory.bytes
    if wanted > 0.95 * host.memory_bytes:
        mend = 'lower worker.memory, or set it to "0": half of each machine'
        return [failure(AREA, address, f"{has} of memory, and worker.memory is {config.worker.memory}", mend)]
    if host.memory_bytes < LEAST_MEMORY_BYTES:
        return [failure(AREA, address, f"{has} of memory is too little for a worker", "use machines with 1 GiB or more")]
    return []


def _clock(address: str, host: Host) -> list[Finding]:
    if abs(host.offset_s) < SKEW_FAILS_S:
        return []
    says = f"its clock is {format_seconds(abs(host.offset_s))} {'ahead' if host.offset_s > 0 else 'behind'}"
    return [failure(AREA, address, f"{says}: what it signs is refused", "set it there: sudo timedatectl set-ntp true")]


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
