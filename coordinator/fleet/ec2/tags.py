"""How what a fleet makes is named and marked. Pure.

The rule: ``tilefleet:fleet`` alone says whose a thing is; names are for people and for finding a thing again before its tags
can be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coordinator.fleet.records import Role

FLEET = "tilefleet:fleet"
NODE = "tilefleet:node"
ROLE = "tilefleet:role"
STORE = "tilefleet:store"
REGION = "tilefleet:region"

Tags = dict[str, str]


def group_name(fleet: str) -> str:
    """Of the security group."""
    return f"tilefleet-{fleet}"


def template_name(fleet: str) -> str:
    """Of the launch template."""
    return f"tilefleet-{fleet}"


def of_fleet(fleet: str, name: str = "") -> Tags:
    """What everything carries; with the name that the console shows."""
    return {FLEET: fleet, **({"Name": name} if name else {})}


def of_node(fleet: str, node: str, role: Role, store_url: str) -> Tags:
    """What an instance and its volume carry."""
    return {FLEET: fleet, NODE: node, ROLE: role, STORE: store_url, "Name": f"{fleet}-{node}"}


def listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """``[{"Key": …, "Value": …}]``, as most of AWS takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def specified(kind: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """EC2's TagSpecifications for a thing that is being made."""
    return [{"ResourceType": kind, "Tags": listed(tags)}]


def read(tags: Iterable[Mapping[str, str]] | None) -> Tags:
    """Inverse of ``listed``; also of what is described without any tags."""
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def wanted(*filters: tuple[str, Sequence[str]]) -> list[dict[str, Any]]:
    """EC2's Filters."""
    return [{"Name": name, "Values": list(values)} for name, values in filters]


def client_token(uid: str, node: str) -> str:
    """The same for every try at launching a node: EC2 makes one instance of it, however often it is asked."""
    return hashlib.sha256(f"{uid} {node}".encode()).hexdigest()  # 64 characters, EC2's limit
