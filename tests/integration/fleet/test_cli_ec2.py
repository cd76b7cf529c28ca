"""``tilefleet fleet`` with EC2, as real processes against the stand-in. Its instances never boot, so no node comes up: what is
seen here is what is said before, what happens when nothing works, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from coordinator.fleet.node_store import NodeStore
from tests.conftest import Server, unique
from tests.integration.fleet.ec2_account import Eyes
from tilefleet import layout
from tilefleet.config import StoreSection
from tilefleet.records import Control, to_json
from tilefleet.store import Stores

pytestmark = pytest.mark.thorough

TIMEOUT_S = 100

CONFIG = """\
[fleet]
name = "{name}"
kind = "remote"

[store]
url = "s3://{name}-store/x"
endpoint_url = "{url}"

[queues]
endpoint_url = "{url}"

[coordinator]
beacon = "500 ms"

[nodes]
provider = "ec2"
count = 2
boot = "3 s"
attempts = 1

[ec2]
endpoint_url = "{url}"
ssh_from = "192.0.2.0/24"
"""


class Cloud:
    """A fleet's config, and the command line that is said about it."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.name = unique("f")
        self.server = server
        self.environment = {
            **os.environ, "TILEFLEET_STATE": str(directory / "state"), "TILEFLEET_CONFIG": str(directory / "fleet.toml"),
        }  # fmt: skip
        (directory / "fleet.toml").write_text(CONFIG.format(name=self.name, url=server.endpoint_url), encoding="utf-8")

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "coordinator.cli.main", "fleet", *words], env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def say(self, *words: str, status: int = 0) -> tuple[str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == status, f"{words} ended with {process.returncode}:\n{out}\n{err}"
        assert "Traceback" not in err
        return out, err

    def told_by(self, *words: str) -> Any:
        return json.loads(self.say(*words, "--json")[0])

    def instances(self) -> set[str]:
        """States of the fleet's instances."""
        ec2 = boto3.client("ec2", endpoint_url=self.server.endpoint_url, region_name="us-east-1")
        try:
            answer = ec2.describe_instances(Filters=[{"Name": "tag:tilefleet:fleet", "Values": [self.name]}])
        finally:
            ec2.close()
        return {one["State"]["Name"] for some in answer["Reservations"] for one in some["Instances"]}


@pytest.fixture
def cloud(tmp_path: Path, moto_server: Server) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, moto_server)
    yield cloud
    process = cloud.start("down", "--yes")
    process.communicate(timeout=TIMEOUT_S)


def test_a_dry_run_says_what_would_be_made_and_what_it_costs_and_makes_nothing(cloud: Cloud) -> None:
    text, _ = cloud.say("up", "--dry-run")
    assert "launch: n1, n2" in text
    assert f"make: bucket {cloud.name}-store" in text
    assert "2 × c7i.xlarge on-demand: $0.371 an hour, $8.89 a day, with about $0.0068 an hour each for 16 GiB of disk" in text
    assert "plus S3 and SQS requests (bundled table, approximate, written down by hand in" in text
    assert not cloud.told_by("status")["is_made"]
    assert cloud.told_by("down", "--yes")["removed"] == []


def test_without_a_terminal_nothing_is_spent_that_was_not_agreed_to(cloud: Cloud) -> None:
    _, err = cloud.say("up", status=3)
    assert "cost: 2 × c7i.xlarge" in err
    assert "say --yes" in err.splitlines()[-1]
    assert cloud.instances() == set()


@pytest.mark.parametrize("words", [["stop"], ["start"], ["sync"], ["logs"], ["ssh", "n1"], ["exec", "uptime"]], ids=" ".join)
def test_before_up_there_is_no_fleet_to_do_anything_with(cloud: Cloud, words: list[str]) -> None:
    said = cloud.say(*words, status=4)[1]
    assert f"there is no fleet {cloud.name}" in said
    assert "'tilefleet fleet up' makes it" in said


async def _unfinished(cloud: Cloud, bucket: str) -> None:
    """A fleet of which only its records and data are left, its coordinator having gone in the middle of three operations."""
    store = Stores(StoreSection(endpoint_url=cloud.server.endpoint_url)).open(f"s3://{bucket}/x")
    await NodeStore(store).found(cloud.name)
    await store.put(layout.leader(1), b"{}")
    control = Control(epoch=1, at=0.0, fleet=cloud.name, leader="", version="1", n_open=3)
    await store.put(layout.control(1), to_json(control))
    await store.put(f"{layout.operation('3f9k2m7q0xyz')}/record.json", b"{}")


def test_down_says_what_has_not_ended_before_it_asks_and_keeps_data_when_told_to(cloud: Cloud) -> None:
    with Eyes(cloud.server.endpoint_url) as eyes:
        bucket = f"{cloud.name}-store"
        eyes.s3.create_bucket(Bucket=bucket)
        asyncio.run(_unfinished(cloud, bucket))
        _, err = cloud.say("down", status=3)
        assert "3 operations not ended: they end now, and what they have computed is removed" in err
        assert "say --yes" in err.splitlines()[-1]
        _, err = cloud.say("down", "--keep-data", "--yes")
        assert "3 operations not ended; what is computed is kept, and they go on after the next 'fleet up'" in err
        keys = [each["Key"] for each in eyes.s3.list_objects_v2(Bucket=bucket)["Contents"]]
        assert keys == ["x/control/000001.json", "x/leader/000001", "x/operations/3f9k2m7q0xyz/record.json"]
        assert [one["kind"] for one in cloud.told_by("down", "--yes")["removed"]] == ["data"], "the bucket was given"
        assert eyes.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def _remains(eyes: Eyes, fleet: str, control: str) -> None:
    """What a fleet that made its bucket has when it has no machines."""
    tags = {"tilefleet:fleet": fleet, "tilefleet:region": "us-east-1", "tilefleet:store": f"s3://{fleet}-store"}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    for which in ("jobs", "jobs-dead", "operations"):
        eyes.sqs.create_queue(QueueName=f"{fleet}-{which}", tags=tags)
    marked = [{"ResourceType": "security-group", "Tags": listed}]
    eyes.ec2.create_security_group(GroupName=f"tilefleet-{fleet}", Description="of nodes", TagSpecifications=marked)
    eyes.iam.create_role(RoleName=f"tilefleet-{fleet}-node", AssumeRolePolicyDocument="{}", Tags=listed)
    eyes.s3.create_bucket(Bucket=f"{fleet}-store")
    eyes.s3.put_bucket_tagging(Bucket=f"{fleet}-store", Tagging={"TagSet": listed})
    eyes.s3.put_object(Bucket=f"{fleet}-store", Key=control, Body=b"{}")


def test_gc_removes_what_a_dead_fleet_left_but_its_data_and_nothing_of_a_live_or_foreign_one(cloud: Cloud) -> None:
    dead, live = unique("dead"), unique("live")
    with Eyes(cloud.server.endpoint_url) as eyes:
        _remains(eyes, dead, "operations/3f9k2m7q0xyz/record.json")  # no coordinator was ever heard
        _remains(eyes, live, "control/000001.json")  # written just now
        eyes.sqs.create_queue(QueueName=f"{dead}x-jobs")
        eyes.iam.create_role(RoleName=f"tilefleet-{dead}x-node", AssumeRolePolicyDocument="{}")
        theirs, lives = eyes.inventory(f"{dead}x"), eyes.inventory(live)
        before = eyes.inventory()
        _, err = cloud.say("gc", status=3)
        assert f"fleet {dead}: its coordinator was never heard" in err
        assert f"kept: bucket {dead}-store" in err
        assert live not in err
        assert eyes.inventory() == before, "nothing goes before somebody says so"
        told = cloud.told_by("gc", "--yes")
        assert told["left"] == []
        kinds = sorted(one["kind"] for one in told["removed"] if one["fleet"] == dead)
        assert kinds == ["queue", "queue", "queue", "role", "security group"]
        assert eyes.inventory(dead) - theirs == {f"bucket {dead}-store"}
        assert eyes.s3.list_objects_v2(Bucket=f"{dead}-store")["KeyCount"] == 1
        assert theirs <= eyes.inventory()
        assert eyes.inventory(live) == lives


@pytest.mark.slow
def test_nodes_that_do_not_boot_are_named_replaced_and_given_up_and_nothing_is_left_after_down(cloud: Cloud) -> None:
    out, err = cloud.say("up", "--yes", "--count", "1", status=13)
    assert out.startswith("0 of 1 node is up after ")
    assert "boot FAILED after" in err
    told = err.partition("tilefleet: 0 of 1 node is up; run the same command again")[2].splitlines()
    assert {line.split(":")[0].strip() for line in told[1:]} >= {"n1", "n2"}, "the first was replaced, and both are told"
    assert cloud.instances() == {"terminated"}
    status = cloud.told_by("status")
    assert (status["is_made"], status["nodes_up"], status["coordinator"]["state"]) == (True, 0, "leads")
    assert status["spent_usd"] >= 0
    gone = cloud.told_by("down", "--yes")
    assert {one["kind"] for one in gone["removed"]} >= {"security group", "launch template", "role", "queue", "data", "bucket"}
    assert (gone["left"], gone["missed"]) == ([], [])
    assert not cloud.told_by("status")["is_made"]


@pytest.mark.slow
def test_ctrl_c_leaves_one_line_and_a_fleet_that_can_be_gone_on_with(cloud: Cloud) -> None:
    process = cloud.start("up", "--yes")
    assert process.stderr is not None
    for line in process.stderr:
        if "launch done" in line:
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "tilefleet: interrupted; what is done stays, and the same command goes on from there"
    assert "Traceback" not in rest
    assert "would" in cloud.told_by("up", "--dry-run"), "nothing half-written keeps the next command from reading it"
    assert cloud.told_by("down", "--yes")["left"] == []
    assert cloud.instances() <= {"terminated", "shutting-down"}
