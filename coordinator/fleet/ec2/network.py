"""Where instances stand: a VPC, its subnets, and a security group that admits SSH from one address.

The rules: a group that was given is not looked into; of a group of our own, the rules are what the configuration says and
no others. A coordinator inside the fleet reaches nodes by the group itself and leaves the rule for the people alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import urllib.request
from typing import Any

from coordinator.fleet.ec2 import instances, tags
from coordinator.fleet.ec2.account import Account, consistent
from coordinator.fleet.ec2.pools import Subnet
from coordinator.fleet.ports import Tell
from tilefleet.config import Config
from tilefleet.errors import AlreadyExists, BadConfig, Unreachable

ADDRESS_URL = "https://checkip.amazonaws.com"  # answers with the caller's public address
ADDRESS_DEADLINE_S = 10.0
SSH = 22


async def vpc(account: Account, config: Config) -> str:
    """The VPC that is given, that of the subnets that are given, or the region's default one."""
    ec2 = config.ec2
    if ec2.vpc:
        return ec2.vpc
    if ec2.subnets:
        found = await _described_subnets(account, ec2.subnets)
        vpcs = sorted({subnet["VpcId"] for subnet in found})
        if len(vpcs) > 1:
            raise BadConfig(f"ec2.subnets must lie in one VPC; these are in {' and '.join(vpcs)}")
        return str(vpcs[0])
    answer = await account.call("ec2", "describe_vpcs", Filters=tags.wanted(("is-default", ["true"])))
    if not answer["Vpcs"]:
        raise BadConfig(
            f"the region {account.region} has no default VPC: name one in ec2.vpc, or make it with 'aws ec2 create-default-vpc'"
        )
    return str(answer["Vpcs"][0]["VpcId"])


async def subnets(account: Account, config: Config, vpc_id: str) -> tuple[Subnet, ...]:
    """Those that are given; else the VPC's default ones, else those that give instances a public address."""
    if config.ec2.subnets:
        found = await _described_subnets(account, config.ec2.subnets)
        if elsewhere := [subnet["SubnetId"] for subnet in found if subnet["VpcId"] != vpc_id]:
            raise BadConfig(f"ec2.subnets: {', '.join(elsewhere)} is not in ec2.vpc {vpc_id}")
    else:
        everything = await account.list("ec2", "describe_subnets", "Subnets", Filters=tags.wanted(("vpc-id", [vpc_id])))
        found = [subnet for subnet in everything if subnet.get("DefaultForAz")] or [
            subnet for subnet in everything if subnet.get("MapPublicIpOnLaunch")
        ]
    zones = config.ec2.zones
    kept = [Subnet(subnet["SubnetId"], subnet["AvailabilityZone"]) for subnet in found]
    kept = sorted((subnet for subnet in kept if not zones or subnet.zone in zones), key=lambda subnet: subnet.zone)
    if not kept:
        there = f" in {', '.join(zones)}" if zones else ""
        raise BadConfig(f"the VPC {vpc_id} has no default or public subnets{there}: name some in ec2.subnets")
    return tuple(kept)


async def _described_subnets(account: Account, ids: tuple[str, ...]) -> list[Any]:
    answer = await account.call(
        "ec2",
        "describe_subnets",
        SubnetIds=list(ids),
        what=f"ec2.subnets {', '.join(ids)}",
        mend="mend ec2.subnets or ec2.region",
    )
    return list(answer["Subnets"])


async def security_group(account: Account, config: Config, vpc_id: str, tell: Tell, *, is_inside: bool) -> str:
    """The id of the group that is given, or of our own, made and mended where needed."""
    if config.ec2.security_group:
        return config.ec2.security_group
    fleet = config.fleet.name
    found = await _own_group(account, fleet, vpc_id)
    if found is None:
        found = await _made_group(account, fleet, vpc_id)
        tell(f"made the security group {tags.group_name(fleet)} ({found['GroupId']})")
    await _mend_rules(account, config, found, tell, is_inside=is_inside)
    return str(found["GroupId"])


async def _own_group(account: Account, fleet: str, vpc_id: str) -> Any | None:
    filters = tags.wanted((f"tag:{tags.FLEET}", [fleet]), ("vpc-id", [vpc_id]))
    groups = await account.list("ec2", "describe_security_groups", "SecurityGroups", Filters=filters)
    return groups[0] if groups else None


async def _made_group(account: Account, fleet: str, vpc_id: str) -> Any:
    name = tags.group_name(fleet)
    try:
        made = await account.call(
            "ec2",
            "create_security_group",
            GroupName=name,
            Description=f"Nodes of the tilefleet fleet {fleet}",
            VpcId=vpc_id,
            TagSpecifications=tags.specified("security-group", tags.of_fleet(fleet, name)),
        )
    except AlreadyExists as error:
        seen = await _own_group(account, fleet, vpc_id)  # by another process just now, or not ours
        if seen is None:
            raise AlreadyExists(
                f"the VPC {vpc_id} has a security group {name} without the tag {tags.FLEET}={fleet}: it is not this fleet's; "
                "choose another fleet.name, or name it in ec2.security_group"
            ) from error
        return seen
    return (await consistent(lambda: account.call("ec2", "describe_security_groups", GroupIds=[made["GroupId"]])))[
        "SecurityGroups"
    ][0]


async def _mend_rules(account: Account, config: Config, group: Any, tell: Tell, *, is_inside: bool) -> None:
    id_ = group["GroupId"]
    present = [rule for rule in map(_rule, _single(group.get("IpPermissions", ()))) if rule]
    desired = await _desired(config, id_, present, is_inside=is_inside)
    surplus = [one for one in _single(group.get("IpPermissions", ())) if _rule(one) not in desired]
    missing = [rule for rule in desired if rule not in present]
    if missing:
        permissions = [_permission(rule) for rule in missing]
        with contextlib.suppress(AlreadyExists):  # a try before this one got through
            await consistent(
                lambda: account.call("ec2", "authorize_security_group_ingress", GroupId=id_, IpPermissions=permissions)
            )
        tell(f"the security group {id_} admits SSH from {' and '.join(rule if rule != id_ else 'itself' for rule in missing)}")
    if surplus:
        await account.call("ec2", "revoke_security_group_ingress", GroupId=id_, IpPermissions=surplus)
        tell(f"the security group {id_} no longer admits {', '.join(_rule(one) or 'what is not SSH' for one in surplus)}")


async def _desired(config: Config, group: str, present: list[str], *, is_inside: bool) -> list[str]:
    """Who may reach port 22: CIDRs, or the group itself for a coordinator on one of its nodes."""
    if config.nodes.transport == "ssm":
        return []
    itself = [group] if config.nodes.coordinator == "node" else []
    if is_inside:
        return itself + [rule for rule in present if rule != group]
    return [*itself, cidr(config.ec2.ssh_from) if config.ec2.ssh_from else await own_cidr()]


def cidr(text: str) -> str:
    """``ec2.ssh_from`` as EC2 has it. Raises BadConfig."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise BadConfig(f"ec2.ssh_from must be an address or a CIDR such as 203.0.113.7/32; got {text!r}") from error


async def own_cidr(url: str = ADDRESS_URL) -> str:
    """The public address of this machine, as AWS sees it."""

    def ask() -> str:
        with urllib.request.urlopen(url, timeout=ADDRESS_DEADLINE_S) as answer:  # noqa: S310 - a constant, or a test's
            return str(answer.read(100).decode("ascii").strip())

    try:
        async with asyncio.timeout(ADDRESS_DEADLINE_S):
            return cidr(str(ipaddress.ip_address(await asyncio.to_thread(ask))))
    except (OSError, ValueError, TimeoutError) as error:
        raise Unreachable(
            f"{url} did not say which public address this machine has; say in ec2.ssh_from who may reach port 22"
        ) from error


def _single(permissions: Any) -> list[Any]:
    """EC2 folds rules of one port into one; each of ours has one source."""
    each: list[Any] = []
    for permission in permissions:
        port = {key: permission[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in permission}
        for key in ("IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs"):
            each += [{**port, key: [source]} for source in permission.get(key, ())]
    return each


def _rule(single: Any) -> str:
    """The source of a rule that is one for SSH; empty for any other."""
    if (single.get("IpProtocol"), single.get("FromPort"), single.get("ToPort")) != ("tcp", SSH, SSH):
        return ""
    for key, name in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6"), ("UserIdGroupPairs", "GroupId")):
        if key in single:
            return str(single[key][0].get(name, ""))
    return ""


def _permission(rule: str) -> dict[str, Any]:
    port = {"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH}
    if rule.startswith("sg-"):
        return {**port, "UserIdGroupPairs": [{"GroupId": rule, "Description": "SSH from the coordinator"}]}
    if ":" in rule:
        return {**port, "Ipv6Ranges": [{"CidrIpv6": rule, "Description": "SSH from who says fleet up"}]}
    return {**port, "IpRanges": [{"CidrIp": rule, "Description": "SSH from who says fleet up"}]}


async def s3_endpoint(account: Account, config: Config, vpc_id: str, subnet_ids: tuple[str, ...], tell: Tell) -> None:
    """A gateway endpoint for S3, on the route tables of these subnets, unless the VPC has one."""
    service = f"com.amazonaws.{account.region}.s3"
    filters = tags.wanted(("vpc-id", [vpc_id]), ("service-name", [service]), ("vpc-endpoint-type", ["Gateway"]))
    there = await account.list("ec2", "describe_vpc_endpoints", "VpcEndpoints", Filters=filters)
    if any(endpoint["State"].lower() in {"available", "pending", "pendingacceptance"} for endpoint in there):
        return
    made = await account.call(
        "ec2",
        "create_vpc_endpoint",
        VpcEndpointType="Gateway",
        VpcId=vpc_id,
        ServiceName=service,
        RouteTableIds=await _route_tables(account, vpc_id, subnet_ids),
        TagSpecifications=tags.specified("vpc-endpoint", tags.of_fleet(config.fleet.name, f"tilefleet-{config.fleet.name}")),
    )
    tell(f"made the S3 gateway endpoint {made['VpcEndpoint']['VpcEndpointId']} in {vpc_id}")


async def used_by_others(account: Account, endpoint_id: str, fleet: str) -> str:
    """Why an endpoint should stay: instances in its VPC that are not this fleet's and run; empty when there are none.
    Raises NotFound."""
    found = await account.list("ec2", "describe_vpc_endpoints", "VpcEndpoints", VpcEndpointIds=[endpoint_id])
    vpc_id = found[0]["VpcId"]
    running = await instances.described(account, ("vpc-id", [vpc_id]), ("instance-state-name", ["pending", "running"]))
    others = [one["InstanceId"] for one in running if tags.read(one.get("Tags")).get(tags.FLEET) != fleet]
    if not others:
        return ""
    return f"{len(others)} running in {vpc_id} that are not this fleet's may reach S3 by it, such as {others[0]}"


async def _route_tables(account: Account, vpc_id: str, subnet_ids: tuple[str, ...]) -> list[str]:
    tables = await account.list("ec2", "describe_route_tables", "RouteTables", Filters=tags.wanted(("vpc-id", [vpc_id])))
    own: dict[str, str] = {}
    main = ""
    for table in tables:
        for association in table.get("Associations", ()):
            if association.get("Main"):
                main = table["RouteTableId"]
            if association.get("SubnetId"):
                own[association["SubnetId"]] = table["RouteTableId"]
    return sorted({own.get(subnet, main) for subnet in subnet_ids} - {""})
