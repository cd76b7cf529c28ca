"""Which machine image a fleet's instances boot, by the public parameters under which its maker publishes the newest one."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from coordinator.fleet.ec2.account import Account
from tilefleet.config import Config
from tilefleet.errors import BadConfig, NotFound

Architecture = Literal["x86_64", "arm64"]


class Known(NamedTuple):
    """A system that nodes are made of."""

    user: str
    """Who logs in, with sudo."""
    parameter: str
    """Name of the public parameter, for each architecture's name below."""
    x86_64: str
    arm64: str
    name_begins: str
    """How the names of its images begin, to know copies by."""


# https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters-ami.html,
# https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/, https://wiki.debian.org/Cloud/AmazonEC2Image
KNOWN = {
    "al2023": Known(
        "ec2-user", "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}", "x86_64", "arm64", "al2023-"
    ),
    "ubuntu-24.04": Known(
        "ubuntu", "/aws/service/canonical/ubuntu/server/24.04/stable/current/{}/hvm/ebs-gp3/ami-id", "amd64", "arm64", "ubuntu/"
    ),
    "ubuntu-22.04": Known(
        "ubuntu", "/aws/service/canonical/ubuntu/server/22.04/stable/current/{}/hvm/ebs-gp2/ami-id", "amd64", "arm64", "ubuntu/"
    ),
    "debian-12": Known("admin", "/aws/service/debian/release/12/latest/{}", "amd64", "arm64", "debian-"),
}


class Image(NamedTuple):
    """What instances boot."""

    id: str
    user: str
    architecture: Architecture
    root_device: str
    volume_gib: int
    """Root volume: what is configured, and no less than the image needs."""


async def architecture_of(account: Account, kinds: tuple[str, ...]) -> Architecture:
    """The architecture that all these instance types have. Raises BadConfig for types that do not exist or differ in it."""
    try:
        found = await account.list("ec2", "describe_instance_types", "InstanceTypes", InstanceTypes=list(kinds))
    except BadConfig as error:
        raise BadConfig(f"ec2.instance_types: the region {account.region} does not have them all: {error}") from error
    by_kind = {one["InstanceType"]: _of_type(one) for one in found}
    if missing := [kind for kind in kinds if kind not in by_kind]:
        raise BadConfig(f"ec2.instance_types: the region {account.region} has no {' and no '.join(missing)}; name others")
    if len(set(by_kind.values())) > 1:
        mixed = ", ".join(f"{kind} is {by_kind[kind]}" for kind in kinds)
        raise BadConfig(f"ec2.instance_types must be of one architecture, as they boot one image: {mixed}")
    return by_kind[kinds[0]]


def _of_type(described: Any) -> Architecture:
    return "arm64" if "arm64" in described["ProcessorInfo"]["SupportedArchitectures"] else "x86_64"


async def image(account: Account, config: Config) -> Image:
    """The image that the configuration names. Raises BadConfig where it does not fit the instance types."""
    name = config.ec2.image
    architecture = await architecture_of(account, config.ec2.instance_types)
    if name in KNOWN:
        id_ = await _newest(account, KNOWN[name], architecture)
    elif name.startswith("ami-"):
        id_ = name
    else:
        raise BadConfig(f"ec2.image must be {', '.join(KNOWN)} or an ami-…; got {name!r}")
    described = await _described(account, id_)
    its = described.get("Architecture", architecture)
    if its != architecture:
        raise BadConfig(f"ec2.image {id_} is for {its}, and {config.ec2.instance_types[0]} is {architecture}; change one of them")
    root = described.get("RootDeviceName") or "/dev/xvda"
    user = _known_user(config) or _guessed_user(described)
    return Image(id_, user, architecture, root, max(math.ceil(config.ec2.volume.bytes / 2**30), _needed_gib(described, root)))


async def user(account: Account, config: Config) -> str:
    """Who logs in to instances of the image that is configured."""
    return _known_user(config) or _guessed_user(await _described(account, config.ec2.image))


def _known_user(config: Config) -> str:
    return config.ssh.user or (KNOWN[config.ec2.image].user if config.ec2.image in KNOWN else "")


async def _newest(account: Account, known: Known, architecture: Architecture) -> str:
    name = known.parameter.format(known.arm64 if architecture == "arm64" else known.x86_64)
    answer = await account.call(
        "ssm", "get_parameter", Name=name, what=f"the public parameter {name}", mend="name an ami-… in ec2.image"
    )
    return str(answer["Parameter"]["Value"])


async def _described(account: Account, id_: str) -> Any:
    what = f"the image {id_}"
    answer = await account.call("ec2", "describe_images", ImageIds=[id_], what=what, mend="mend ec2.image; it is per region")
    if not answer["Images"]:
        raise NotFound(f"{what} does not exist in {account.region}; mend ec2.image")
    return answer["Images"][0]


def _guessed_user(described: Any) -> str:
    name = str(described.get("Name", ""))
    for known in KNOWN.values():
        if name.startswith(known.name_begins):
            return known.user
    raise BadConfig(f"ssh.user: say who logs in to the image {described['ImageId']} ({name or 'without a name'}), as ec2-user")


def _needed_gib(described: Any, root: str) -> int:
    sizes = [
        mapping["Ebs"].get("VolumeSize", 0)
        for mapping in described.get("BlockDeviceMappings", ())
        if mapping.get("DeviceName") == root and "Ebs" in mapping
    ]
    return max(map(int, sizes), default=0)
