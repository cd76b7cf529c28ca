"""What is not the fleet's: ``down`` and ``gc`` leave it alone, and ``up`` does not take it over."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from coordinator.fleet.ec2 import orphans
from coordinator.fleet.records import Belonging
from tests.conftest import Server, unique
from tests.integration.fleet import ec2_account as aws
from tilefleet.errors import AlreadyExists
from tilefleet.quantities import Duration

TAG = "tilefleet:fleet"


def _foreign(eyes: aws.Eyes, fleet: str) -> None:
    """Things of other people: with names like ours, with tags like ours, in the account that the coursework cleaned up."""
    image = "ami-12c6146b"
    other = [{"Key": TAG, "Value": f"{fleet}-2"}, {"Key": "Name", "Value": f"{fleet}-n1"}]
    eyes.ec2.run_instances(ImageId=image, MinCount=2, MaxCount=2)
    eyes.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": other}])
    eyes.ec2.create_volume(Size=1, AvailabilityZone="us-east-1a")
    eyes.ec2.create_security_group(GroupName=f"{fleet}-nodes", Description="theirs")
    eyes.ec2.create_key_pair(KeyName=f"tilefleet-{fleet}")
    eyes.ec2.create_launch_template(LaunchTemplateName=f"{fleet}-template", LaunchTemplateData={"ImageId": image})
    for name in (f"{fleet}-2-jobs", f"{fleet}-notes", f"{fleet}-2-jobs-dead", f"x{fleet}-jobs"):
        eyes.sqs.create_queue(QueueName=name)
    eyes.iam.create_role(RoleName=f"tilefleet-{fleet}-2-node", AssumeRolePolicyDocument="{}")
    eyes.iam.create_instance_profile(InstanceProfileName=f"tilefleet-{fleet}-2-node")
    eyes.s3.create_bucket(Bucket=f"{fleet}-store-2")
    eyes.s3.put_object(Bucket=f"{fleet}-store-2", Key="leader/000001", Body=b"theirs")


async def test_down_removes_exactly_what_up_made(moto_server: Server, tmp_path: Path) -> None:
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        vpc = eyes.ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
        subnets = (
            eyes.ec2.create_subnet(VpcId=vpc, CidrBlock="10.8.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"],
        )
        settings = aws.config(moto_server.endpoint_url, nodes={"coordinator": "node"}, s3_endpoint=True, subnets=subnets)
        _foreign(eyes, settings.fleet.name)
        before = eyes.inventory()
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1", "n2")
            made = eyes.inventory() - before
            assert {"role", "queue", "bucket", "VPC endpoint", "instance"} <= set(aws.kinds(made))
            told = await aws.down(provider)
        assert eyes.inventory() == before
    gone = [line for line in told if line.startswith(("removed", "ended"))]
    assert len(gone) == len([one for one in made if not one.startswith("volume")]) + 1  # the data; volumes go with instances


@pytest.mark.thorough
async def test_gc_shows_every_fleet_by_itself_and_removes_only_what_it_is_given(moto_server: Server, tmp_path: Path) -> None:
    one, two = aws.config(moto_server.endpoint_url), aws.config(moto_server.endpoint_url)
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        _foreign(eyes, one.fleet.name)
        before = eyes.inventory()
        for settings in (one, two):
            async with aws.provider_of(settings, tmp_path) as provider:
                await aws.up(provider, settings, "n1", "n2")
        found = {traces.fleet: traces for traces in await orphans.traces(one)}
        assert {one.fleet.name, two.fleet.name, f"{one.fleet.name}-2"} <= found.keys()
        first = found[one.fleet.name]
        assert first.store_url == one.store.url
        assert first.usd_per_hour == pytest.approx(2 * 0.1785)
        assert first.is_alive  # it was made just now
        assert first.heard_at == 0
        assert {belonging.fleet for belonging in first.belongings} == {one.fleet.name}
        told: list[str] = []
        await orphans.remove(one, first.belongings, told.append)
        assert eyes.inventory() == before | eyes.inventory(two.fleet.name)
        await orphans.remove(two, found[two.fleet.name].belongings, told.append)
        assert eyes.inventory() == before


@pytest.mark.thorough
async def test_a_fleet_is_switched_off_when_all_of_its_instances_are(moto_server: Server, tmp_path: Path) -> None:
    config = aws.config(moto_server.endpoint_url)
    async with aws.provider_of(config, tmp_path) as provider:
        await aws.up(provider, config, "n1", "n2", "n3")

        async def is_stopped() -> bool:
            return {traces.fleet: traces for traces in await orphans.traces(config)}[config.fleet.name].is_stopped

        n1, n2, n3 = await provider.machines()
        await provider.stop([n1])
        assert not await is_stopped()
        await provider.stop([n2])
        await provider.terminate([n3])
        assert await is_stopped()
        await aws.down(provider)


async def test_a_fleet_without_machines_in_a_bucket_that_was_given_is_heard_by_its_queues_tags(moto_server: Server) -> None:
    config = aws.config(moto_server.endpoint_url)
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        fleet, bucket = unique("idle"), unique("given")
        eyes.s3.create_bucket(Bucket=bucket)
        eyes.s3.put_object(Bucket=bucket, Key="x/control/000001.json", Body=b"{}")
        eyes.sqs.create_queue(QueueName=f"{fleet}-jobs", tags={TAG: fleet, "tilefleet:store": f"s3://{bucket}/x"})
        found = {traces.fleet: traces for traces in await orphans.traces(config)}[fleet]
    assert found.store_url == f"s3://{bucket}/x"
    assert found.is_alive


async def test_a_store_that_cannot_be_read_is_no_sign_of_death(moto_server: Server) -> None:
    here = aws.config(moto_server.endpoint_url)
    away = replace(here, store=replace(here.store, endpoint_url="http://127.0.0.1:9", timeout=Duration("1 s")))
    heard_at, trouble = await orphans._heard_at(away, "s3://somewhere/x")
    assert heard_at == 0
    assert trouble
    assert await orphans._heard_at(here, "s3://nowhere-at-all/x") == (0, "")


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["queue", "security group", "launch template", "role", "instance profile"])
async def test_up_does_not_take_over_what_has_its_names_but_not_its_tag(moto_server: Server, tmp_path: Path, kind: str) -> None:
    settings = aws.config(moto_server.endpoint_url)
    fleet = settings.fleet.name
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        if kind == "queue":
            eyes.sqs.create_queue(QueueName=f"{fleet}-jobs", tags={TAG: "another"})
        elif kind == "security group":
            eyes.ec2.create_security_group(GroupName=f"tilefleet-{fleet}", Description="theirs", VpcId=_default_vpc(eyes))
        elif kind == "launch template":
            eyes.ec2.create_launch_template(LaunchTemplateName=f"tilefleet-{fleet}", LaunchTemplateData={"ImageId": "ami-1"})
        elif kind == "role":
            eyes.iam.create_role(RoleName=f"tilefleet-{fleet}-node", AssumeRolePolicyDocument="{}")
        else:
            eyes.iam.create_instance_profile(InstanceProfileName=f"tilefleet-{fleet}-node")
        before = eyes.inventory()
        async with aws.provider_of(settings, tmp_path) as provider:
            with pytest.raises(AlreadyExists, match="not this fleet's") as caught:
                await aws.up(provider, settings, "n1")
            assert f"{kind} " in str(caught.value)
            await aws.down(provider)
        assert eyes.inventory() == before


@pytest.mark.thorough
async def test_removal_looks_at_the_tag_again(moto_server: Server, tmp_path: Path) -> None:
    settings = aws.config(moto_server.endpoint_url)
    fleet = settings.fleet.name
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        instance = eyes.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        group = eyes.ec2.create_security_group(GroupName=unique("theirs"), Description="theirs")["GroupId"]
        eyes.sqs.create_queue(QueueName=f"{fleet}-jobs")
        eyes.iam.create_role(RoleName=f"tilefleet-{fleet}-node", AssumeRolePolicyDocument="{}")
        eyes.s3.create_bucket(Bucket=f"{fleet}-theirs")
        before = eyes.inventory()
        wrong = [
            Belonging("instance", instance, fleet), Belonging("security group", group, fleet),
            Belonging("queue", f"{fleet}-jobs", fleet), Belonging("role", f"tilefleet-{fleet}-node", fleet),
            Belonging("bucket", f"{fleet}-theirs", fleet),
        ]  # fmt: skip
        told: list[str] = []
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.remove(wrong, told.append)
        assert eyes.inventory() == before
    assert len([line for line in told if line.startswith("left the")]) == 4


def _default_vpc(eyes: aws.Eyes) -> str:
    return str(eyes.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"])
