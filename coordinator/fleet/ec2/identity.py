"""Who nodes are to AWS: a role with the permissions of config/iam in an instance profile of the same name.

The rule: where a profile is given, as it must be in a Learner Lab, IAM is not called at all.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Literal
from urllib.parse import unquote

from coordinator.fleet import policies
from coordinator.fleet.ec2 import tags
from coordinator.fleet.ec2.account import Account, absent_is_fine, consistent
from coordinator.fleet.ports import Tell
from coordinator.fleet.records import Role
from tilefleet.config import Config
from tilefleet.errors import AlreadyExists, DoesNotFit, NotFound

Kind = Literal["node", "coordinator"]
POLICY = "tilefleet"


def given(config: Config, role: Role) -> str:
    """The instance profile that the configuration names for such a node; empty where one is made."""
    ec2 = config.ec2
    return (ec2.coordinator_profile or ec2.instance_profile) if role == "coordinator" else ec2.instance_profile


def name(config: Config, role: Role) -> str:
    """The instance profile of such a node: what is given, or the name of our own."""
    return given(config, role) or policies.role_name(config.fleet.name, _kind(role))


async def ensure(account: Account, config: Config, tell: Tell) -> None:
    """Make the roles that this fleet needs and is not given, with their permissions as they are to be now."""
    roles: list[Role] = ["worker", *(["coordinator"] if config.nodes.coordinator == "node" else [])]  # type: ignore[list-item]
    for role in roles:
        if not given(config, role):
            await _ensure(account, config, _kind(role), tell)


async def _ensure(account: Account, config: Config, kind: Kind, tell: Tell) -> None:
    own = policies.role_name(config.fleet.name, kind)
    is_new = await _ensure_role(account, config, own)
    await _ensure_policy(account, config, own, kind)
    is_new |= await _ensure_profile(account, config, own)
    if is_new:
        tell(f"made the role and instance profile {own}")


async def _ensure_role(account: Account, config: Config, own: str) -> bool:
    try:
        found = (await account.call("iam", "get_role", RoleName=own))["Role"]
    except NotFound:
        try:
            await account.call(
                "iam",
                "create_role",
                RoleName=own,
                AssumeRolePolicyDocument=json.dumps(policies.trust()),
                Description=f"What nodes of the tilefleet fleet {config.fleet.name} may do",
                Tags=tags.listed(_tags(account, config)),
            )
            return True
        except AlreadyExists:  # by another process just now
            found = (await consistent(lambda: account.call("iam", "get_role", RoleName=own)))["Role"]
    _check_is_ours(account, config, found.get("Tags"), f"the role {own}")
    return False


async def _ensure_policy(account: Account, config: Config, own: str, kind: Kind) -> None:
    wanted = policies.policy(kind, policies.facts_of(config, await account.number()))
    try:
        answer = await account.call("iam", "get_role_policy", RoleName=own, PolicyName=POLICY)
        if document(answer["PolicyDocument"]) == wanted:
            return
    except NotFound:
        pass
    await consistent(
        lambda: account.call("iam", "put_role_policy", RoleName=own, PolicyName=POLICY, PolicyDocument=json.dumps(wanted))
    )


async def _ensure_profile(account: Account, config: Config, own: str) -> bool:
    is_new = False
    try:
        found = (await account.call("iam", "get_instance_profile", InstanceProfileName=own))["InstanceProfile"]
    except NotFound:
        try:
            mark = tags.listed(_tags(account, config))
            answer = await account.call("iam", "create_instance_profile", InstanceProfileName=own, Tags=mark)
            found, is_new = answer["InstanceProfile"], True
        except AlreadyExists:
            answer = await consistent(lambda: account.call("iam", "get_instance_profile", InstanceProfileName=own))
            found = answer["InstanceProfile"]
    if not is_new:
        _check_is_ours(account, config, found.get("Tags"), f"the instance profile {own}")
    if own not in [role["RoleName"] for role in found["Roles"]]:
        with contextlib.suppress(DoesNotFit):  # it holds one role: a try before this one added it
            await consistent(lambda: account.call("iam", "add_role_to_instance_profile", InstanceProfileName=own, RoleName=own))
    return is_new


def document(text: Any) -> Any:
    """A policy as IAM returns it: botocore decodes it, stand-ins may not."""
    return json.loads(unquote(text)) if isinstance(text, str) else text


def _tags(account: Account, config: Config) -> tags.Tags:
    return {**tags.of_fleet(config.fleet.name), tags.REGION: account.region, tags.STORE: config.store.url}


def _check_is_ours(account: Account, config: Config, found: Any, what: str) -> None:
    """Roles are the account's, not the region's: a fleet of the same name elsewhere has the same."""
    its = tags.read(found)
    if its.get(tags.FLEET) != config.fleet.name:
        raise AlreadyExists(
            f"{what} lacks the tag {tags.FLEET}={config.fleet.name}: it is not this fleet's; choose another fleet.name, or name "
            "an instance profile in ec2.instance_profile"
        )
    if its.get(tags.REGION, account.region) != account.region:
        raise AlreadyExists(
            f"{what} is that of the fleet {config.fleet.name} in {its[tags.REGION]}; choose another fleet.name here"
        )


def _kind(role: Role) -> Kind:
    return "coordinator" if role == "coordinator" else "node"


async def remove_profile(account: Account, own: str) -> None:
    """Remove an instance profile; its role stays."""
    try:
        found = (await account.call("iam", "get_instance_profile", InstanceProfileName=own))["InstanceProfile"]
    except NotFound:
        return
    for role in found["Roles"]:
        await absent_is_fine(
            account.call("iam", "remove_role_from_instance_profile", InstanceProfileName=own, RoleName=role["RoleName"])
        )
    await absent_is_fine(account.call("iam", "delete_instance_profile", InstanceProfileName=own))


async def remove_role(account: Account, own: str) -> None:
    """Remove a role with what hangs on it. What is gone was removed by a try whose answer was lost, and the rest still goes."""
    try:
        attached = await account.list("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=own)
        inline = await account.list("iam", "list_role_policies", "PolicyNames", RoleName=own)
    except NotFound:
        return
    for policy in attached:
        await absent_is_fine(account.call("iam", "detach_role_policy", RoleName=own, PolicyArn=policy["PolicyArn"]))
    for name_ in inline:
        await absent_is_fine(account.call("iam", "delete_role_policy", RoleName=own, PolicyName=name_))
    await absent_is_fine(account.call("iam", "delete_role", RoleName=own))


async def tags_of(account: Account, kind: Literal["role", "instance profile"], own: str) -> tags.Tags:
    """Tags of a role or profile; none when it is gone."""
    try:
        if kind == "role":
            return tags.read((await account.call("iam", "get_role", RoleName=own))["Role"].get("Tags"))
        answer = await account.call("iam", "get_instance_profile", InstanceProfileName=own)
        return tags.read(answer["InstanceProfile"].get("Tags"))
    except NotFound:
        return {}
