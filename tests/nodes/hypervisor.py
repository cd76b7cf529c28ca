"""Boots a node of ours for each instance that the stand-in's EC2 has, and does to it what is done to the instance.

The rule: what happens on the node, the node does itself, as on EC2: its image has a cloud-init that asks the metadata service
for the user data at the first boot, and runs it as root. A node that powers itself off ends its instance as its launch template
says. Instances without the tag of the fleet are other people's: nothing boots for them.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import boto3

from tests.conftest import ACCESS_KEY, SECRET_KEY, Server
from tests.nodes.disks import Options
from tests.nodes.machines import Network, Node
from tests.nodes.metadata import ADDRESS as METADATA
from tests.nodes.runs import ip

POLL_S = 0.25
START_TIMEOUT_S = 20.0
_EVERY = ("pending", "running", "stopping", "stopped", "shutting-down", "terminated")
ROLE = "the-role-of-the-instance"
_CLOUD_INIT = f"""#!/bin/sh
# What cloud-init does, as far as a node notices it.
set -eu
if [ "$1" = status ]; then
  until [ -e /run/cloud-init/done ]; do sleep 0.1; done
  echo 'status: done'
  exit
fi
get() {{ curl --silent --show-error --fail --header "X-aws-ec2-metadata-token: $token" "http://{METADATA}/latest/$1"; }}
token=$(curl --silent --fail --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://{METADATA}/latest/api/token)
mkdir -p /var/lib/cloud/data /var/lib/cloud/instance /run/cloud-init
if [ "$(get meta-data/instance-id)" != "$(cat /var/lib/cloud/data/instance-id 2>/dev/null)" ]; then
  get meta-data/instance-id >/var/lib/cloud/data/instance-id
  get user-data >/var/lib/cloud/instance/user-data.txt
  chmod 700 /var/lib/cloud/instance/user-data.txt
  /var/lib/cloud/instance/user-data.txt || echo "the user data ended with $?"
fi
touch /run/cloud-init/done
"""
_UNIT = """[Unit]
Description=The user data
After=network.target ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/cloud-init run
"""
_WANTED = "[Unit]\nWants=cloud-final.service\n"
_QUICK = "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=2\nOnUnitActiveSec=2\nAccuracySec=100ms\n"


class Hypervisor:
    """For ``with``: works in a thread of its own."""

    def __init__(self, network: Network, cloud: Server, fleet: str, directory: Path, image: Options) -> None:
        """``image``: what the nodes' disks begin with."""
        self._image = image
        self._network = network
        self._tag = {"Name": "tag:tilefleet:fleet", "Values": [fleet]}
        self._told = directory / "metadata"
        self._told.mkdir()
        self._nodes: dict[str, Node] = {}
        self._over: set[str] = set()
        self._errors: list[Exception] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hypervisor")
        self.ec2 = boto3.client("ec2", endpoint_url=cloud.endpoint_url, region_name="us-east-1")

    def __enter__(self) -> Hypervisor:
        name = self._network.name
        if METADATA not in subprocess.run(["ip", "-n", name, "address"], check=True, capture_output=True, text=True).stdout:
            ip("-n", name, "address", "add", f"{METADATA}/32", "dev", "switch")
            ip("-n", name, "route", "add", self._network.subnet, "dev", "switch")
        self._service = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{name}", sys.executable, "-m", "tests.nodes.metadata", str(self._told)],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (self._told / "ready").exists():
            assert time.monotonic() < deadline, "the metadata service does not start"
            time.sleep(0.02)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._service.terminate()
        self._service.wait()
        for node in self._nodes.values():
            node.remove()
        self.ec2.close()
        if self._errors:
            raise self._errors[0]

    def nodes(self) -> dict[str, Node]:
        """By the names that they have in the fleet."""
        return {
            tag["Value"]: self._nodes[one["InstanceId"]]
            for one in self.instances() if one["InstanceId"] in self._nodes
            for tag in one["Tags"] if tag["Key"] == "tilefleet:node"
        }  # fmt: skip

    def instances(self, *states: str) -> list[Any]:
        """EC2's descriptions, in these states; none named: all that are not gone."""
        wanted = list(states) or ["pending", "running", "stopping", "stopped"]
        filters = [self._tag, {"Name": "instance-state-name", "Values": wanted}]
        return [one for some in self.ec2.describe_instances(Filters=filters)["Reservations"] for one in some["Instances"]]

    def tell(self, node: Node, path: str, text: str) -> None:
        """Put an item into a node's metadata."""
        file = self._told / node.address / "latest" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def lose(self, node: Node) -> None:
        """EC2's machine below a node breaks."""
        instance = next(id_ for id_, one in self._nodes.items() if one is node)
        self._over.add(instance)
        node.power_off_hard()
        self.ec2.terminate_instances(InstanceIds=[instance])

    # ---- its own thread

    def _work(self) -> None:
        while not self._end.wait(POLL_S):
            try:
                for instance in self.instances(*_EVERY):
                    self._follow(instance)
            except Exception as error:  # noqa: BLE001  told at the end; an EC2 that is busy for a moment is no reason to leave
                self._errors.append(error)

    def _follow(self, instance: Any) -> None:
        id_, state = instance["InstanceId"], instance["State"]["Name"]
        node = self._nodes.get(id_)
        if id_ in self._over:
            return
        if state in {"shutting-down", "terminated"}:
            self._over.add(id_)
            if node is not None and node.is_up():
                node.power_off_hard()
        elif state == "running" and node is None:
            self._boot(instance)
        elif state == "stopped" and node is not None and node.is_up():
            node.shut_down()
        elif state == "running" and node is not None and node.address != instance["PublicIpAddress"]:
            self._boot_again(node, instance)
        elif state == "running" and node is not None and not node.is_up():
            self._powered_off(id_, node)

    def _boot(self, instance: Any) -> None:
        node = self._network.add_node(self._image, address=instance["PublicIpAddress"])
        node.write("/usr/bin/cloud-init", _CLOUD_INIT, 0o755)
        node.write("/etc/systemd/system/cloud-final.service", _UNIT)
        node.write("/etc/systemd/system/multi-user.target.d/cloud-init.conf", _WANTED)
        node.write("/etc/systemd/system/tilefleet-deadman.timer.d/quick.conf", _QUICK)
        ip("-n", node.name, "address", "add", f"{instance['PrivateIpAddress']}/16", "dev", "eth0")
        self._connect(node, instance)
        node.start()
        self._nodes[instance["InstanceId"]] = node

    def _boot_again(self, node: Node, instance: Any) -> None:
        if node.is_up():  # it was stopped and started before we looked
            node.shut_down()
        node.move(instance["PublicIpAddress"])
        self._connect(node, instance)
        node.start()

    def _connect(self, node: Node, instance: Any) -> None:
        rmtree(self._told / node.address, ignore_errors=True)
        ip("-n", node.name, "route", "replace", METADATA, "dev", "eth0", "src", node.address)
        attribute = self.ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
        self.tell(node, "user-data", base64.b64decode(attribute["UserData"]["Value"]).decode())
        self.tell(node, "meta-data/instance-id", instance["InstanceId"])
        keys = {
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "session",
            "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z",
        }  # fmt: skip
        self.tell(node, f"meta-data/iam/security-credentials/{ROLE}", json.dumps(keys))

    def _powered_off(self, id_: str, node: Node) -> None:
        node.reap()
        template = self.ec2.describe_launch_templates(Filters=[self._tag])["LaunchTemplates"][0]["LaunchTemplateId"]
        versions = self.ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["$Latest"])
        behaviour = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"].get("InstanceInitiatedShutdownBehavior", "stop")
        with suppress(self.ec2.exceptions.ClientError):
            if behaviour == "terminate":
                self._over.add(id_)
                self.ec2.terminate_instances(InstanceIds=[id_])
            else:
                self.ec2.stop_instances(InstanceIds=[id_])
