"""The AWS account, asked about itself: who we are, what we may do, how much of it, and what it has already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from coordinator.fleet import policies
from coordinator.fleet.doctor import simulation
from coordinator.fleet.doctor.findings import Finding, ok, skipped
from coordinator.fleet.doctor.judgements import account as judge
from coordinator.fleet.doctor.judgements.instances import Kind
from coordinator.fleet.ec2 import network, tags
from coordinator.fleet.ec2.account import Account
from coordinator.fleet.ec2.instances import described
from coordinator.fleet.ec2.pools import markets
from tilefleet import aws
from tilefleet.account import Identity
from tilefleet.config import Config
from tilefleet.credentials import renewal
from tilefleet.errors import TilefleetError

ALIVE = ["pending", "running"]


def credentials(identity: Identity, now: float) -> Finding:
    """Who we are, and for how long where that is said."""
    found = aws.credentials()
    token = getattr(found.get_frozen_credentials(), "token", None)
    return judge.credentials(
        identity.arn, is_temporary=bool(token), expires_in_s=_expires_in_s(os.environ, now), renewal=renewal()
    )


def _expires_in_s(environment: Mapping[str, str], now: float) -> float | None:
    """Of keys in variables whose giver says so; those of files and roles say nothing, or are renewed by themselves."""
    text = environment.get("AWS_CREDENTIAL_EXPIRATION", "")
    if not text or not environment.get("AWS_ACCESS_KEY_ID"):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now


async def region(account: Account) -> list[Finding]:
    try:
        answer = await account.call("ec2", "describe_regions", AllRegions=True)
    except TilefleetError:
        known = dict.fromkeys(await asyncio.to_thread(aws.known_regions), "opted-in")
        if account.region in known:
            raise
        return [judge.region(account.region, known)]  # nobody answers for a region that does not exist
    return [judge.region(account.region, {one["RegionName"]: one.get("OptInStatus", "opted-in") for one in answer["Regions"]})]


async def permissions(account: Account, config: Config, identity: Identity) -> list[Finding]:
    """The client's policy, statement by statement, as IAM itself decides. Only asks."""
    principal = simulation.principal(identity.arn)
    if principal is None:
        return [skipped(judge.AREA, "permissions", "IAM does not simulate these credentials; see the calls below")]
    facts = policies.facts_of(config, identity.account)
    questions = simulation.questions(policies.policy("client", facts), principal, makes_roles=not config.ec2.instance_profile)
    try:
        answers = await asyncio.gather(*(_simulated(account, question) for question in questions))
    except TilefleetError as error:
        said = str(error).partition("; ")[0]
        return [skipped(judge.AREA, "permissions", f"IAM does not say ({said}); the calls below are asked of EC2 itself")]
    return [judge.permission(question.sid, decisions) for question, decisions in zip(questions, answers, strict=True)]


async def _simulated(account: Account, question: simulation.Question) -> dict[str, str]:
    results = await account.list("iam", "simulate_principal_policy", "EvaluationResults", **question.parameters)
    return simulation.decisions(results)


async def dry_runs(account: Account, config: Config, image_id: str) -> list[Finding]:
    """The calls that make things, asked of EC2 with DryRun, as fleet up would make them."""
    fleet = config.fleet.name
    vpc = await network.vpc(account, config)
    subnets = await network.subnets(account, config, vpc)
    mark = tags.of_node(fleet, "n1", "worker", config.store.url)
    profile = {"IamInstanceProfile": {"Name": config.ec2.instance_profile}} if config.ec2.instance_profile else {}
    key = {"KeyName": config.ec2.key_name} if config.ec2.key_name else {}
    calls: dict[str, dict[str, Any]] = {
        "run_instances": {
            "ImageId": image_id, "InstanceType": config.ec2.instance_types[0], "SubnetId": subnets[0].id, "MinCount": 1,
            "MaxCount": 1, "TagSpecifications": [*tags.specified("instance", mark), *tags.specified("volume", mark)],
            **profile, **key,
        },
        "create_launch_template": {
            "LaunchTemplateName": tags.template_name(fleet), "LaunchTemplateData": {"ImageId": image_id},
            "TagSpecifications": tags.specified("launch-template", tags.of_fleet(fleet)),
        },
    }  # fmt: skip
    if not config.ec2.security_group:
        calls["create_security_group"] = {
            "GroupName": tags.group_name(fleet),
            "Description": f"Nodes of the tilefleet fleet {fleet}",
            "VpcId": vpc,
            "TagSpecifications": tags.specified("security-group", tags.of_fleet(fleet)),
        }
    findings = await asyncio.gather(*(_dry_run(account, call, parameters) for call, parameters in calls.items()))
    return [ok(judge.AREA, "network", f"{vpc}, {len(subnets)} subnets"), *findings]


async def _dry_run(account: Account, call: str, parameters: dict[str, Any]) -> Finding:
    action = "".join(word.capitalize() for word in call.split("_"))
    try:
        await account.call("ec2", call, DryRun=True, **parameters)
    except TilefleetError as error:
        return judge.dry_run(action, aws.code_of(error), str(error))
    return ok(judge.AREA, f"may {action}", "EC2 would do it")


async def capacity(account: Account, config: Config, kinds: Mapping[str, Kind]) -> list[Finding]:
    """Quotas and the cap, against what is there and what is wanted."""
    running = await described(account, ("instance-state-name", ALIVE))
    own = [one for one in running if tags.read(one.get("Tags")).get(tags.FLEET) == config.fleet.name]
    wanted = max(0, nodes_wanted(config) - len(own))
    findings = [judge.instance_cap(config.ec2.max_instances, len(running), wanted)]
    for market in markets(config.ec2.market):
        quotas = {judge.quota_code(kind, market) for kind in config.ec2.instance_types}
        vcpus = max((kinds[kind].vcpus for kind in config.ec2.instance_types if kind in kinds), default=0)
        used = sum(_vcpus(one) for one in running if _counts(one, market))
        if None in quotas:
            findings.append(skipped(judge.AREA, f"{market} vCPUs", "some of these types have quotas of their own"))
        else:
            limit = await quota(account, config, str(quotas.pop()))
            findings.append(judge.quota(limit, used, wanted * vcpus, market))
    return findings


async def quota(account: Account, config: Config, code: str) -> float | None:
    """A service quota of EC2 in this region; None where that may not be asked."""
    try:
        async with aws.client("service-quotas", region=account.region, endpoint_url=config.ec2.endpoint_url) as quotas:
            with aws.errors("Service Quotas"):
                answer = await quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)
    except TilefleetError:
        return None
    return float(answer["Quota"]["Value"])


def nodes_wanted(config: Config) -> int:
    """Instances of the fleet at its largest."""
    return max(config.nodes.count, config.nodes.max_nodes) + (config.nodes.coordinator == "node")


def learner_lab(identity: Identity, config: Config) -> list[Finding]:
    found = judge.learner_lab(identity.arn, config)
    return [found] if found else []


def _counts(instance: Any, market: str) -> bool:
    is_spot = instance.get("InstanceLifecycle") == "spot"
    code = judge.quota_code(instance["InstanceType"], market)
    return code is not None and is_spot == (market == "spot")


def _vcpus(instance: Any) -> int:
    options = instance.get("CpuOptions") or {}
    return int(options.get("CoreCount", 1)) * int(options.get("ThreadsPerCore", 1))
