"""What the network, the store, the queues and the running fleet say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.fleet.doctor.findings import Finding, failure, ok, skipped, warning
from tilefleet.quantities import format_seconds

AREA = "network"
SKEW_FAILS_S = 300.0  # AWS refuses what was signed five minutes before or after its own time
SKEW_WARNS_S = 60.0
SLOW_S = 0.5  # from Europe to us-east-1 it is 0.1


def clock(offset_s: float | None) -> Finding:
    """``offset_s``: how far this machine's clock is ahead of AWS's; None when nobody said the time."""
    if offset_s is None:
        return skipped(AREA, "clock", "no service said what time it is")
    direction = "ahead of" if offset_s > 0 else "behind"
    says = f"{format_seconds(abs(offset_s))} {direction} AWS's"
    mend = "set the clock: sudo timedatectl set-ntp true (Linux), or Date & Time in the system settings (macOS)"
    if abs(offset_s) >= SKEW_FAILS_S:
        return failure(AREA, "clock", f"{says}: requests signed now are refused", mend)
    if abs(offset_s) >= SKEW_WARNS_S:
        return warning(AREA, "clock", f"{says}; at five minutes requests are refused", mend)
    return ok(AREA, "clock", says if abs(offset_s) >= 2 else "right")


def service(name: str, host: str, addresses: Sequence[str], connect_s: float | None, why: str = "") -> Finding:
    """``addresses``: what the name resolves to; ``connect_s``: how long a connection took, None when there was none."""
    if not addresses:
        mend = "check the spelling of region and endpoint_url, and the DNS of this machine"
        return failure(AREA, name, f"the name {host} does not resolve", mend)
    if connect_s is None:
        mend = "check the network, a firewall or VPN, and HTTPS_PROXY"
        return failure(AREA, name, f"{host} ({addresses[0]}) takes no connection: {why or 'no answer'}", mend)
    if connect_s > SLOW_S:
        mend = "nearer regions make small operations faster; large ones do not mind"
        return warning(AREA, name, f"{host}: {format_seconds(connect_s)} to connect", mend)
    return ok(AREA, name, f"{host}: {format_seconds(connect_s)} to connect")


def queues(fleet: str, missing: Sequence[str], *, makes_them: str) -> Finding:
    """``missing``: of the fleet's three queues; ``makes_them``: who will."""
    names = ("operations", "jobs", "completions")
    if not missing:
        return ok("queues", "queues", f"{fleet}-{', -'.join(names)} are there")
    if len(missing) == len(names):
        return ok("queues", "queues", f"none yet; {makes_them} makes them")
    return warning("queues", "queues", f"{', '.join(missing)} missing", f"{makes_them} makes them again")


def leader(version: str, own: str, silent_s: float, beacon_s: float) -> Finding:
    """The coordinator that leads, by its beacon."""
    if silent_s > max(60.0, 10 * beacon_s):
        return skipped("fleet", "coordinator", f"none runs: the last beacon is {format_seconds(silent_s)} old")
    if base(version) != base(own):
        mend = "bring both to one version: tilefleet fleet sync, or install the fleet's version here"
        return warning("fleet", "coordinator", f"version {version}, and this is {own}", mend)
    return ok("fleet", "coordinator", f"version {version}, heard {format_seconds(max(0.0, silent_s))} ago")


def nodes(versions: Iterable[str], own: str) -> Finding:
    """The versions of live workers against the release that this machine would install."""
    versions = list(versions)
    if not versions:
        return ok("fleet", "nodes", "none are up")
    other = sorted({version for version in versions if version != own})
    if other:
        says = f"{len(versions)} up, with version {', '.join(other)} in place of {own}"
        return warning("fleet", "nodes", says, "tilefleet fleet sync brings them to this machine's version, one by one")
    return ok("fleet", "nodes", f"{len(versions)} up, with version {own}")


def base(version: str) -> str:
    """``0.1.0+3f9c2e71`` → ``0.1.0``."""
    return version.partition("+")[0]
