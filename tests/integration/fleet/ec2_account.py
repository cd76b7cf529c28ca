"""An AWS account as tests use it: the stand-in behind the proxy, providers in it, and what is there besides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.config

from coordinator.fleet.ec2.account import Account
from coordinator.fleet.ec2.provider import Ec2Provider
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.ports import Wanted
from tests.conftest import unique
from tilefleet.config import Config, FleetSection, QueuesSection, StoreSection
from tilefleet.fleet_config import Ec2Section, NodesSection
from tilefleet.store import Stores

REGION = "us-east-1"
HERE = "203.0.113.7/32"


def config(endpoint_url: str, fleet: str = "", *, store: str = "", nodes: dict[str, Any] | None = None, **ec2: Any) -> Config:
    """A fleet of EC2 in the stand-in."""
    fleet = fleet or unique("fleet")
    return Config(
        fleet=FleetSection(name=fleet, kind="remote"),
        store=StoreSection(url=store or f"s3://{fleet}-store/below", endpoint_url=endpoint_url),
        queues=QueuesSection(endpoint_url=endpoint_url),
        nodes=NodesSection(provider="ec2", **(nodes or {})),
        ec2=Ec2Section(**{"ssh_from": HERE, "endpoint_url": endpoint_url, **ec2}),
    )


@asynccontextmanager
async def provider_of(settings: Config, state: Path, account: Account | None = None) -> AsyncIterator[Ec2Provider]:
    """A provider with the files of its fleet below ``state``; closed at the end, unless the account is somebody else's."""
    provider = a_provider(settings, state, account)
    try:
        yield provider
    finally:
        if account is None:
            await provider.close()


def a_provider(settings: Config, state: Path, account: Account | None = None) -> Ec2Provider:
    """A provider as a new process has it: it remembers nothing."""
    files = FleetFiles(settings.fleet.name)
    files.root = state / settings.fleet.name
    for name in ("private_key", "public_key", "known_hosts"):
        setattr(files, name, files.root / getattr(files, name).name)
    files.make()
    return Ec2Provider(settings, files, Stores(settings.store).open(settings.store.url), account)


async def up(provider: Ec2Provider, settings: Config, *nodes: str, may_refuse: bool = False) -> list[str]:
    """What ``fleet up`` asks of a provider; what it told."""
    told: list[str] = []
    await provider.prepare(told.append)
    await NodeStore(Stores(settings.store).open(settings.store.url)).found(settings.fleet.name)
    machines, refused = await provider.launch([Wanted(node) for node in nodes])
    assert len(machines) + len(refused) == len(nodes)
    assert may_refuse or not refused
    return told


async def down(provider: Ec2Provider) -> list[str]:
    """What ``fleet down`` asks of a provider; what it told."""
    told: list[str] = []
    await provider.remove(await provider.belongings(), told.append)
    return told


class Eyes:
    """Looks at the stand-in past our code; for ``with``."""

    def __init__(self, endpoint_url: str) -> None:
        path_style = botocore.config.Config(s3={"addressing_style": "path"})
        session = boto3.Session(region_name=REGION)
        self.ec2, self.iam, self.sqs, self.s3 = (
            session.client(service, endpoint_url=endpoint_url, config=path_style) for service in ("ec2", "iam", "sqs", "s3")
        )

    def __enter__(self) -> Eyes:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self.ec2, self.iam, self.sqs, self.s3):
            opened.close()

    def inventory(self, having: str = "") -> set[str]:
        """Everything in the account and region, whose description has a text in it: ``instance i-0…``."""
        things = {
            "instance": [i for r in _all(self.ec2, "describe_instances", "Reservations") for i in r["Instances"]],
            "volume": _all(self.ec2, "describe_volumes", "Volumes"),
            "launch template": _all(self.ec2, "describe_launch_templates", "LaunchTemplates"),
            "security group": _all(self.ec2, "describe_security_groups", "SecurityGroups"),
            "VPC endpoint": _all(self.ec2, "describe_vpc_endpoints", "VpcEndpoints"),
            "key pair": self.ec2.describe_key_pairs()["KeyPairs"],
            "role": _all(self.iam, "list_roles", "Roles"),
            "instance profile": _all(self.iam, "list_instance_profiles", "InstanceProfiles"),
            "queue": [{"id": url} for url in _all(self.sqs, "list_queues", "QueueUrls")],
            "bucket": [{"id": bucket["Name"]} for bucket in self.s3.list_buckets()["Buckets"]],
        }
        things["instance"] = [i for i in things["instance"] if i["State"]["Name"] not in {"terminated", "shutting-down"}]
        things["VPC endpoint"] = [e for e in things["VPC endpoint"] if e["State"].lower() != "deleted"]
        return {f"{kind} {_id(thing)}" for kind, some in things.items() for thing in some if having in str(thing)}

    def instances(self, fleet: str) -> list[Any]:
        """A fleet's instances that are not gone."""
        filters = [{"Name": "tag:tilefleet:fleet", "Values": [fleet]},
                   {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]  # fmt: skip
        return [i for r in self.ec2.describe_instances(Filters=filters)["Reservations"] for i in r["Instances"]]


def _all(opened: Any, operation: str, key: str) -> list[Any]:
    return [thing for page in opened.get_paginator(operation).paginate() for thing in page.get(key, [])]


def _id(thing: Any) -> str:
    for key in ("InstanceId", "VolumeId", "LaunchTemplateId", "GroupId", "VpcEndpointId", "KeyPairId", "RoleName",
                "InstanceProfileName", "id"):  # fmt: skip
        if key in thing:
            return str(thing[key])
    raise AssertionError(thing)


def kinds(found: set[str]) -> list[str]:
    """``instance i-0 …`` → ``instance``, sorted."""
    return sorted(one.rpartition(" ")[0] for one in found)
