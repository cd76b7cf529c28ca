"""What will be launched: types, image, memory and disk against the configuration, price, keys."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coordinator.fleet.doctor.findings import Finding, failure, ok, skipped, warning
from tilefleet.config import Config
from tilefleet.quantities import format_bytes, format_seconds

AREA = "instances"
GIB = 2**30
LEAST_MEMORY_BYTES = 1 * GIB  # half of it is the worker's: 190 MiB for Python and its libraries, the rest for one job
SYSTEM_BYTES = 4 * GIB  # a system takes 3 GiB, tilefleet 1 GiB
LONG_LIFETIME_S = 7 * 24 * 3600.0


class Kind(NamedTuple):
    """An instance type, as EC2 describes it."""

    name: str
    vcpus: int
    memory_bytes: int
    architectures: tuple[str, ...]


def types(config: Config, found: Mapping[str, Kind]) -> Finding:
    """``found``: those of ec2.instance_types that the region offers."""
    wanted = config.ec2.instance_types
    missing = [name for name in wanted if name not in found]
    if len(missing) == len(wanted):
        return failure(AREA, "types", f"the region has none of {', '.join(wanted)}", "name others in ec2.instance_types")
    kinds = [found[name] for name in wanted if name in found]
    shared = set.intersection(*(set(kind.architectures) for kind in kinds)) & {"x86_64", "arm64"}
    if not shared:
        mixed = ", ".join(f"{kind.name} is {' or '.join(kind.architectures)}" for kind in kinds)
        return failure(AREA, "types", f"they boot one image, and {mixed}", "name types of one architecture in ec2.instance_types")
    described = ", ".join(f"{kind.name} ({kind.vcpus} vCPUs, {format_bytes(kind.memory_bytes)})" for kind in kinds)
    if missing:
        return failure(AREA, "types", f"the region has no {' and no '.join(missing)}", "take them out of ec2.instance_types")
    return ok(AREA, "types", described)


def memory(config: Config, kinds: Sequence[Kind]) -> Finding:
    """Whether a worker fits the smallest of the types."""
    smallest = min(kinds, key=lambda kind: kind.memory_bytes)
    wanted = config.worker.memory.bytes
    has = f"{smallest.name} has {format_bytes(smallest.memory_bytes)}"
    if wanted > 0.9 * smallest.memory_bytes:
        mend = 'lower worker.memory, set it to "0" (half of the machine), or name larger types'
        return failure(AREA, "memory", f"{has}, worker.memory is {config.worker.memory}", mend)
    if smallest.memory_bytes < LEAST_MEMORY_BYTES:
        return failure(AREA, "memory", f"{has}: too little for a worker", "name types with 1 GiB or more, better 4 GiB")
    return ok(AREA, "memory", f"{format_bytes(wanted or smallest.memory_bytes // 2)} for each worker; {has}")


def volume(config: Config) -> Finding:
    size = config.ec2.volume
    if size.bytes < SYSTEM_BYTES:
        return failure(AREA, "volume", f"{size}: system and tilefleet take 4 GiB", 'set ec2.volume = "8 GiB" or more')
    return ok(AREA, "volume", f"{size}, encrypted, deleted with its instance")


def switches(config: Config) -> list[Finding]:
    """What ends the costs by itself."""
    dead_man, lifetime = config.ec2.dead_man, config.ec2.lifetime
    if dead_man.s:
        first = ok(AREA, "dead-man switch", f"a node that hears no coordinator for {dead_man} terminates itself")
    else:
        mend = 'set ec2.dead_man = "30 m"'
        first = warning(AREA, "dead-man switch", "off: nodes whose coordinator is gone run, and cost, until you end them", mend)
    if not lifetime.s:
        second = warning(AREA, "lifetime", "no node ends by itself after a maximum time", 'set ec2.lifetime = "24 h"')
    elif lifetime.s > LONG_LIFETIME_S:
        second = warning(AREA, "lifetime", f"nodes run up to {lifetime}", "lower ec2.lifetime to what the work takes")
    else:
        second = ok(AREA, "lifetime", f"a node terminates itself after {lifetime}, whatever happens")
    return [first, second]


def coordinator(config: Config) -> Finding:
    if config.nodes.coordinator == "node":
        return ok(AREA, "coordinator", "on a node of its own: this machine may be switched off")
    stops = config.ec2.dead_man if config.nodes.provider == "ec2" else config.hosts.dead_man
    then = (
        f"the fleet stops {stops} after this machine sleeps or leaves the network"
        if stops.s
        else "work waits while this machine sleeps"
    )
    return warning(AREA, "coordinator", f"on this machine: {then}", 'for work of hours set nodes.coordinator = "node"')


def image(name: str, image_id: str, architecture: str) -> Finding:
    shown = name if name == image_id else f"{name}: {image_id}"
    return ok(AREA, "image", f"{shown} for {architecture}")


def price(usd_per_hour: float | None, source: str, nodes: int, kind: str, market: str) -> Finding:
    if usd_per_hour is None:
        mend = "look it up at https://aws.amazon.com/ec2/pricing/ before you go on"
        return warning(AREA, "price", f"of {kind} {market}: not known here", mend)
    each = f"{kind} {market}: ${usd_per_hour:.4g} an hour each"
    return ok(AREA, "price", f"{each}, ${usd_per_hour * nodes:.4g} for {nodes} ({source})")


def key_file(shown: str, mode: int | None) -> Finding:
    """``mode``: st_mode of ssh.key_file; None when there is none."""
    if mode is None:
        return failure(AREA, "key file", f"there is no {shown}", "put the private key there, or mend ssh.key_file")
    if not stat.S_ISREG(mode):
        return failure(AREA, "key file", f"{shown} is no file", "name the private key itself in ssh.key_file")
    if mode & 0o077:
        return failure(AREA, "key file", f"{shown} can be read by others (mode {mode & 0o777:04o})", f"chmod 600 {shown}")
    return ok(AREA, "key file", f"{shown}, for you alone")


def key_pair(config: Config, is_there: bool | None) -> Finding:
    """``is_there``: whether EC2 knows ec2.key_name; None when it was not asked."""
    name = config.ec2.key_name
    if not name:
        return ok(AREA, "key pair", "none needed: the fleet makes an ed25519 key of its own")
    if is_there is None:
        return skipped(AREA, "key pair", f"{name} could not be looked up")
    if not is_there:
        return failure(
            AREA, "key pair", f"EC2 has no key pair {name} in this region", "mend ec2.key_name; key pairs are per region"
        )
    if not config.ssh.key_file:
        mend = "name the file with its private half in ssh.key_file"
        return failure(AREA, "key pair", f"{name}, but no ssh.key_file says where its private half is", mend)
    return ok(AREA, "key pair", name)


def budget(config: Config) -> Finding:
    nodes = config.nodes
    limits = [f"${nodes.max_cost_usd:g}"] if nodes.max_cost_usd else []
    limits += [format_seconds(nodes.max_hours * 3600)] if nodes.max_hours else []
    if limits:
        return ok(AREA, "budget", f"the fleet ends after {' or '.join(limits)}")
    return ok(AREA, "budget", "no limit (nodes.max_cost_usd and nodes.max_hours set one); nodes that end are replaced")
