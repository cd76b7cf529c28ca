"""The launch template: everything about an instance but its type, its place and its name.

The rules: a version is never changed; when the contents differ from the newest version's, another is made. Each version says
the digest of its contents, so that they are compared without reading them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, NamedTuple

from coordinator.fleet.ec2 import tags
from coordinator.fleet.ec2.account import Account, consistent
from coordinator.fleet.ec2.images import Image
from coordinator.fleet.ports import Tell
from tilefleet.config import Config
from tilefleet.errors import AlreadyExists

MAX_USER_DATA_BYTES = 16 * 1024  # EC2's limit, before base64


class Template(NamedTuple):
    """A version of the fleet's launch template."""

    id: str
    version: str


class Found(NamedTuple):
    """The newest version there is, and the user data in it."""

    template: Template
    digest: str
    user_data: str


def data(config: Config, image: Image, group: str, user_data: str) -> dict[str, Any]:
    """LaunchTemplateData. Pure."""
    if len(user_data.encode()) > MAX_USER_DATA_BYTES:
        raise ValueError(f"the user data has {len(user_data.encode())} bytes, EC2 takes {MAX_USER_DATA_BYTES}")
    volume = {"VolumeSize": image.volume_gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    return {
        "ImageId": image.id,
        "SecurityGroupIds": [group],
        "UserData": base64.b64encode(user_data.encode()).decode(),
        "InstanceInitiatedShutdownBehavior": "terminate",  # the dead-man switch powers off; StopInstances still stops
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": image.root_device, "Ebs": volume}],
        **({"KeyName": config.ec2.key_name} if config.ec2.key_name else {}),
    }


def digest(contents: dict[str, Any]) -> str:
    """Of a version's contents."""
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:32]


async def newest(account: Account, fleet: str) -> Found | None:
    """The newest version of the fleet's template; None when there is no template."""
    found = await _own(account, fleet)
    if found is None:
        return None
    answer = await consistent(
        lambda: account.call(
            "ec2", "describe_launch_template_versions", LaunchTemplateId=found["LaunchTemplateId"], Versions=["$Latest"]
        )
    )
    version = answer["LaunchTemplateVersions"][0]
    text = base64.b64decode(version["LaunchTemplateData"].get("UserData", "")).decode("utf-8", "replace")
    template = Template(found["LaunchTemplateId"], str(version["VersionNumber"]))
    return Found(template, version.get("VersionDescription", ""), text)


async def ensure(account: Account, config: Config, contents: dict[str, Any], found: Found | None, tell: Tell) -> Template:
    """The template with these contents: as it was found, a new version, or a new one."""
    version: dict[str, Any] = {"VersionDescription": digest(contents), "LaunchTemplateData": contents}
    name = tags.template_name(config.fleet.name)
    if found is None:
        mark = tags.specified("launch-template", tags.of_fleet(config.fleet.name, name))
        try:
            await account.call("ec2", "create_launch_template", LaunchTemplateName=name, TagSpecifications=mark, **version)
            tell(f"made the launch template {name}")
        except AlreadyExists as error:
            if await _own(account, config.fleet.name) is None:
                raise AlreadyExists(
                    f"the account has a launch template {name} without the tag {tags.FLEET}={config.fleet.name}: it is not this "
                    "fleet's; choose another fleet.name"
                ) from error
        found = await newest(account, config.fleet.name)
        if found is None:
            raise AlreadyExists(f"the launch template {name} was removed while it was made; try again")
    if found.digest == version["VersionDescription"]:
        return found.template
    answer = await account.call("ec2", "create_launch_template_version", LaunchTemplateId=found.template.id, **version)
    made = Template(found.template.id, str(answer["LaunchTemplateVersion"]["VersionNumber"]))
    tell(f"made version {made.version} of the launch template {name}")
    return made


async def _own(account: Account, fleet: str) -> Any | None:
    filters = tags.wanted((f"tag:{tags.FLEET}", [fleet]))
    templates = await account.list("ec2", "describe_launch_templates", "LaunchTemplates", Filters=filters)
    return templates[0] if templates else None
