"""The sections of a configuration that only `tilefleet fleet` and the keeper of a coordinator read: which machines, and how
they are reached and paid for. ``tilefleet.config.Config`` has them beside the others.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tilefleet.quantities import Duration, Size

Strings = tuple[str, ...]


class NodesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[nodes]: the machines that `tilefleet fleet` makes and keeps."""

    provider: Literal["none", "ec2", "hosts"] = "none"
    """ec2: instances, made and terminated. hosts: machines that exist, named in [hosts]. none: daemons started by hand."""
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    """Worker nodes of an ec2 fleet; a hosts fleet has those it names."""
    min_nodes: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """Autoscaling goes no lower; 0: all nodes may go while there is no work."""
    max_nodes: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """Autoscaling goes no higher. 0: no autoscaling, always `nodes.count`."""
    finish_in: Duration = Duration("15 m")
    """Autoscaling makes as many nodes as finish the work that is known in this time: shorter costs starts, longer patience."""
    idle: Duration = Duration("5 m")
    """Autoscaling keeps nodes without work this long: a start takes about two minutes, and is paid for."""
    max_cost_usd: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    """The fleet is drained and its nodes terminated when its machines have cost this much. 0: no limit."""
    max_hours: Annotated[float, msgspec.Meta(ge=0, le=8760)] = 0.0
    """The same after so many hours since `fleet up`. 0: no limit."""
    coordinator: Literal["here", "node"] = "here"
    """here: beside whoever says `fleet up`, as long as that machine runs. node: on a node of its own, so the laptop may close."""
    transport: Literal["ssh", "ssm"] = "ssh"
    """How nodes are set up. ssm: AWS Systems Manager, for accounts that forbid port 22."""
    packages: Literal["upload", "index"] = "upload"
    """upload: nodes get every package from here and need no internet. index: their pip fetches known versions by itself."""
    at_once: Annotated[int, msgspec.Meta(ge=1, le=200)] = 16
    """Nodes that are set up at the same time: each takes 150 MB of upload."""
    boot: Duration = Duration("5 m")
    """From launch to a node that answers and has finished its own set-up (cloud-init)."""
    step: Duration = Duration("5 m")
    """For each step of a node's set-up: the longest is installing packages, half a minute on a small instance."""
    hello: Duration = Duration("90 s")
    """From a started workerd to its hello with the version that was installed."""
    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 2
    """Tries at setting up a node before it is given up and, with ec2, replaced."""
    replace_after: Duration = Duration("3 m")
    """A node whose worker was not heard this long is sick: it is started again, then replaced. Longer than a reboot."""


class SshSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[ssh]: how nodes are reached. Host keys are always pinned; there is no setting that accepts an unknown one."""

    user: str = ""
    """Log-in name. Empty: that of the image (ec2), your own (hosts). Needs sudo without a password, or to be root."""
    key_file: str = ""
    """Private key. Empty: an ed25519 key that is made for the fleet (ec2); your agent and ~/.ssh/id_* (hosts)."""
    agent: bool = True
    """Whether keys of a running ssh-agent are tried too."""
    known_hosts: str = ""
    """hosts: file with the machines' host keys. Empty: ~/.ssh/known_hosts. ec2: the keys that the nodes themselves publish."""
    jump: str = ""
    """Bastion that is passed on the way, as user@address:port; its key must be in known_hosts. Empty: none."""
    connect: Duration = Duration("10 s")
    """For one try at connecting."""
    keepalive: Duration = Duration("5 s")
    """Between signs of life; three unanswered end the connection."""


class HostsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[hosts]: the machines of a fleet with `nodes.provider = "hosts"`."""

    addresses: Strings = ()
    """Of the workers: address, user@address, user@address:port or [IPv6]:port."""
    coordinator: str = ""
    """Of the coordinator's machine, for `nodes.coordinator = "node"`; it may also be one of the workers."""
    environment_file: str = ""
    """File with AWS_ACCESS_KEY_ID=… and so on, copied to the machines for root alone. Empty: they have what they need."""
    dead_man: Duration = Duration("0 s")
    """A machine powers itself off when no coordinator was heard this long. "0 s": never, as somebody must switch it on again."""
    lifetime: Duration = Duration("0 s")
    """A machine powers itself off after this much running time, whatever happens. "0 s": never."""


class Ec2Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[ec2]: the instances of a fleet with `nodes.provider = "ec2"`. What is not given is made, and removed by `fleet down`."""

    region: str = ""
    """Empty: that of [store], else what the AWS environment says, else us-east-1."""
    endpoint_url: str = ""
    """Of a stand-in for EC2, IAM, SSM and STS; empty for AWS."""
    instance_types: Strings = ("c7i.xlarge", "c6i.xlarge", "c7a.xlarge")
    """In order of preference; of one architecture. Several let a launch succeed where one is sold out."""
    zones: Strings = ()
    """Availability zones. Empty: all of the region, or those of the subnets."""
    market: Literal["on-demand", "spot", "spot-or-on-demand"] = "on-demand"
    """spot: cheaper, may be taken away with two minutes' notice. spot-or-on-demand: on-demand where no spot is to be had."""
    image: str = "al2023"
    """al2023, ubuntu-24.04, ubuntu-22.04, debian-12, or an ami-… of your own with one of these on it."""
    volume: Size = Size("16 GiB")
    """Root volume, encrypted: the system takes 3 GiB, tilefleet 1 GiB."""
    vpc: str = ""
    """Empty: the region's default VPC."""
    subnets: Strings = ()
    """Empty: all of the VPC's default subnets."""
    address: Literal["public", "private"] = "public"
    """Where nodes are reached: private from inside the VPC, over a VPN, or by way of `ssh.jump`. Nodes without a public address
    are reached at their private one in any case."""
    security_group: str = ""
    """Empty: one is made that admits SSH from `ec2.ssh_from` alone."""
    ssh_from: str = ""
    """CIDR that may reach port 22. Empty: the public address of the machine that says `fleet up`, as AWS sees it."""
    key_name: str = ""
    """EC2 key pair whose private half is `ssh.key_file`. Empty: the fleet's own key."""
    instance_profile: str = ""
    """Instance profile of the nodes. Empty: a role with config/iam/node.json is made."""
    coordinator_profile: str = ""
    """Of a coordinator node. Empty: a role with config/iam/coordinator.json is made, or `ec2.instance_profile` where given."""
    s3_endpoint: bool = False
    """Whether a (free) S3 gateway endpoint is added to the VPC: small nodes are capped at 5 Gb/s without; NAT costs per GB.
    It stays after `fleet down` as long as instances that are not this fleet's run in the VPC, as they may use it."""
    max_instances: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """Hard cap on all instances of the account in the region, ours or not, checked before every launch and start. 0: none."""
    dead_man: Duration = Duration("30 m")
    """A node powers itself off, and so is terminated, when no coordinator was heard this long. "0 s": never."""
    lifetime: Duration = Duration("24 h")
    """A node powers itself off after this much running time, whatever happens. "0 s": never. A coordinator's node ends with the
    budget instead (`nodes.max_hours`, `nodes.max_cost_usd`) where there is one."""
