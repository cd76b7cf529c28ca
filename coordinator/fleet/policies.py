"""The permissions of a fleet: the JSON files of config/iam with a fleet's own facts in them.

The rule: ``client``, ``coordinator`` and ``node`` are allowed the calls that docs/reference/api-calls.md gives them, on the
things of one fleet, and nothing else; tests/unit/fleet/test_iam.py holds the files to the code.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from tilefleet.aws import region_of
from tilefleet.config import Config
from tilefleet.errors import BadConfig

PolicyName = Literal["client", "coordinator", "node"]
NAMES: tuple[PolicyName, ...] = ("client", "coordinator", "node")

_USE = "Use"
_OF_SSM = "SystemsManager"  # ends the names of statements that nodes reached by SSH do without
_PACKED = Path(__file__).parent / "iam"  # in the wheel (pyproject.toml puts config/iam there)
_CHECKOUT = Path(__file__).parents[2] / "config" / "iam"


class PolicyFacts(NamedTuple):
    """Whose permissions: what stands for the ``${…}`` of the files."""

    fleet: str
    account: str
    region: str
    bucket: str
    prefix: str = ""
    """Of the store in its bucket, with a slash at its end unless it is empty."""
    partition: str = "aws"
    """``aws-cn`` in China, ``aws-us-gov`` in GovCloud."""
    queues_region: str = ""
    """Empty: ``region``."""
    is_ssm: bool = False
    """Whether nodes are reached by Systems Manager: only then may its agent talk to it."""


def facts_of(config: Config, account: str) -> PolicyFacts:
    """Of a configuration whose ``store.url`` is resolved, and an account by number. Raises BadConfig without a store in S3."""
    url = config.store.url
    parts = urlsplit(url, allow_fragments=False)
    if parts.scheme != "s3" or not parts.netloc:
        raise BadConfig(f"store.url: permissions are about a bucket in S3; {url!r} is none: write s3://bucket/prefix")
    prefix, region = parts.path.strip("/"), region_of(config.ec2.region, config.store.region)
    return PolicyFacts(
        fleet=config.fleet.name,
        account=account,
        region=region,
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        partition=partition_of(region),
        queues_region=region_of(config.queues.region),
        is_ssm=config.nodes.transport == "ssm",
    )


def partition_of(region: str) -> str:
    """The part of AWS a region is in, as ARNs name it."""
    return {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}.get(
        next((p for p in ("cn-", "us-gov-") if region.startswith(p)), ""), "aws"
    )


def role_name(fleet: str, role: Literal["node", "coordinator"]) -> str:
    """The role that is made for a fleet's nodes or its coordinator; its instance profile has the same name.

    At most 10 + 40 + 12 characters of the 64 that IAM allows.
    """
    return f"tilefleet-{fleet}-{role}"


def policy(name: PolicyName, facts: PolicyFacts) -> dict[str, Any]:
    """A policy document for one fleet."""
    facts = facts._replace(queues_region=facts.queues_region or facts.region)
    document: dict[str, Any] = json.loads(string.Template(template(name)).substitute(facts._asdict()))
    if not facts.is_ssm:
        document["Statement"] = [one for one in document["Statement"] if not one["Sid"].endswith(_OF_SSM)]
    if not facts.prefix:  # a listing of everything names no prefix, and a condition on what is not said never holds
        for statement in document["Statement"]:
            if "s3:prefix" in statement.get("Condition", {}).get("StringLike", {}):
                del statement["Condition"]
    return document


def use_only(client: dict[str, Any], *, is_use: bool) -> dict[str, Any]:
    """One half of the client's policy: what using a fleet takes, or what making and removing one takes besides.

    Two halves, as a managed policy has at most 6,144 characters.
    """
    found = [one for one in client["Statement"] if one["Sid"].startswith(_USE) == is_use]
    return {**client, "Statement": found}


def template(name: PolicyName) -> str:
    """The text of a file of config/iam: from the wheel, or from a checkout."""
    for directory in (_PACKED, _CHECKOUT):
        if (directory / f"{name}.json").exists():
            return (directory / f"{name}.json").read_text(encoding="utf-8")
    raise BadConfig(f"the policy {name}.json is not part of this installation; install tilefleet again")


def trust() -> dict[str, Any]:
    """Who may take the roles: EC2, for instances that were started with their profile."""
    allow = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [allow]}
