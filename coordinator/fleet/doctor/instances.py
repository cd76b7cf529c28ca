"""What fleet up would launch: types, image, identity, keys and price, looked up before."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from coordinator.fleet.doctor.account import nodes_wanted
from coordinator.fleet.doctor.findings import Finding, of_error, ok, skipped
from coordinator.fleet.doctor.judgements import instances as judge
from coordinator.fleet.doctor.judgements.instances import AREA, Kind
from coordinator.fleet.ec2.account import Account
from coordinator.fleet.ec2.images import Image, image
from coordinator.fleet.ec2.quotes import Quotes
from tilefleet.config import Config
from tilefleet.errors import BadConfig, NotAllowed, NotFound, TilefleetError


async def kinds(account: Account, config: Config) -> dict[str, Kind]:
    """Those of the configured types that the region has."""
    wanted = config.ec2.instance_types
    offered = await account.list(
        "ec2",
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        Filters=[{"Name": "instance-type", "Values": [*wanted]}],
    )
    names = sorted({one["InstanceType"] for one in offered} & set(wanted))
    if not names:
        return {}
    found = await account.list("ec2", "describe_instance_types", "InstanceTypes", InstanceTypes=names)
    return {kind.name: kind for kind in map(_kind, found)}


def _kind(described: Any) -> Kind:
    return Kind(
        described["InstanceType"],
        int(described["VCpuInfo"]["DefaultVCpus"]),
        int(described["MemoryInfo"]["SizeInMiB"]) * 2**20,
        tuple(described["ProcessorInfo"]["SupportedArchitectures"]),
    )


def settings(config: Config) -> list[Finding]:
    """What the configuration alone says about instances."""
    return [judge.volume(config), *judge.switches(config), judge.budget(config), judge.coordinator(config)]


def of_kinds(config: Config, found: dict[str, Kind]) -> list[Finding]:
    findings = [judge.types(config, found)]
    return [*findings, judge.memory(config, list(found.values()))] if found else findings


async def of_image(account: Account, config: Config) -> tuple[list[Finding], Image | None]:
    """The image that would boot; None, and why, where it cannot be had."""
    try:
        found = await image(account, config)
    except TilefleetError as error:
        return [of_error(AREA, "image", error)], None
    return [judge.image(config.ec2.image, found.id, found.architecture)], found


async def keys(account: Account, config: Config) -> list[Finding]:
    """The EC2 key pair and the private key on this machine, where they are given."""
    if config.nodes.transport == "ssm":
        return [ok(AREA, "keys", "none needed: Systems Manager has its own way in")]
    is_there: bool | None = None
    if config.ec2.key_name:
        try:
            await account.call("ec2", "describe_key_pairs", KeyNames=[config.ec2.key_name])
            is_there = True
        except (NotFound, BadConfig):
            is_there = False
        except TilefleetError:
            is_there = None
    findings = [judge.key_pair(config, is_there)]
    if config.ssh.key_file:
        findings.append(await asyncio.to_thread(_key_file, config.ssh.key_file))
    return findings


def _key_file(shown: str) -> Finding:
    try:
        mode = os.stat(Path(shown).expanduser()).st_mode  # noqa: PTH116 - follows a link, as ssh does
    except OSError:
        mode = None
    return judge.key_file(shown, mode)


async def profiles(account: Account, config: Config) -> list[Finding]:
    """Instance profiles that are given."""
    given = dict.fromkeys(name for name in (config.ec2.instance_profile, config.ec2.coordinator_profile) if name)
    if not given:
        return [ok(AREA, "instance profile", "made by fleet up, with config/iam/node.json")]
    return list(await asyncio.gather(*(_profile(account, name) for name in given)))


async def _profile(account: Account, name: str) -> Finding:
    what = f"the instance profile {name}"
    try:
        await account.call("iam", "get_instance_profile", InstanceProfileName=name, what=what, mend="mend ec2.instance_profile")
    except NotFound as error:
        return of_error(AREA, "instance profile", error)
    except NotAllowed:
        return skipped(AREA, "instance profile", f"{name}; IAM may not be asked whether it is there (iam:GetInstanceProfile)")
    return ok(AREA, "instance profile", name)


async def price(account: Account, config: Config) -> list[Finding]:
    """What the fleet costs, and which price list says so."""
    kinds, quotes = config.ec2.instance_types, Quotes(account)
    found = await (quotes.spot(kinds) if config.ec2.market.startswith("spot") else quotes.on_demand(kinds[0]))
    if found is None:
        return [judge.price(None, "", nodes_wanted(config), kinds[0], config.ec2.market)]
    return [judge.price(found.usd_per_hour, found.source, nodes_wanted(config), found.kind, found.market)]
