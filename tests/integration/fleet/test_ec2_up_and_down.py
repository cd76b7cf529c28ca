"""``fleet up`` on EC2 converges, whichever call fails on the way, and ``fleet down`` leaves nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from coordinator.fleet.ec2.account import Account
from tests.conftest import Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import Kind, Proxy, is_read, proxy_to
from tilefleet.config import Config
from tilefleet.errors import NotAllowed
from tilefleet.quantities import Size

SHARDS = 10  # of the calls, so that they run side by side
WHOLE = sorted(
    ["bucket", "instance", "instance", "instance profile", "launch template", "role", "security group"]
    + ["queue"] * 6
    + ["volume"] * 4  # moto gives an instance the image's own and the template's
)
TRIES = 200
CHANGES_OF_UP = {
    "s3:PUT", "s3:PUT tagging", "s3:PUT publicAccessBlock", "s3:PUT encryption", "sqs:CreateQueue", "sqs:TagQueue",
    "ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress", "iam:CreateRole", "iam:PutRolePolicy",
    "iam:CreateInstanceProfile", "iam:AddRoleToInstanceProfile", "ec2:CreateLaunchTemplate", "ec2:RunInstances",
}  # fmt: skip
LOOKS_OF_UP = {
    "ec2:DescribeInstanceTypes", "ssm:GetParameter", "ec2:DescribeImages", "ec2:DescribeVpcs", "ec2:DescribeSubnets", "s3:HEAD",
    "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "ec2:DescribeSecurityGroups", "iam:GetRole", "sts:GetCallerIdentity",
    "iam:GetRolePolicy", "iam:GetInstanceProfile", "ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions", "s3:GET",
    "ec2:DescribeInstances", "ec2:DescribeInstanceTypeOfferings",
}  # fmt: skip
CHANGES_OF_DOWN = {
    "ec2:TerminateInstances", "ec2:DeleteLaunchTemplate", "ec2:DeleteSecurityGroup", "iam:RemoveRoleFromInstanceProfile",
    "iam:DeleteInstanceProfile", "iam:DeleteRolePolicy", "iam:DeleteRole", "sqs:DeleteQueue", "s3:POST delete", "s3:DELETE",
}  # fmt: skip
LOOKS_OF_DOWN = {
    "ec2:DescribeInstances", "ec2:DescribeVolumes", "ec2:DescribeLaunchTemplates", "ec2:DescribeSecurityGroups",
    "ec2:DescribeVpcEndpoints", "ec2:DescribeTags", "sqs:ListQueues", "sqs:ListQueueTags", "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl", "iam:GetRole", "iam:GetInstanceProfile", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies",
    "s3:GET tagging", "s3:GET list-type",
}  # fmt: skip


async def test_a_second_up_changes_nothing(moto_server: Server, tmp_path: Path) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url, s3_endpoint=False)
        async with aws.provider_of(settings, tmp_path) as provider:
            assert len(await aws.up(provider, settings, "n1", "n2")) == 6
            before = eyes.inventory(settings.fleet.name)
        async with aws.provider_of(settings, tmp_path) as provider:
            proxy.arm(None)
            assert await aws.up(provider, settings, "n1", "n2") == []
            assert [call for call in proxy.calls if not is_read(call)] == ["s3:PUT"]  # the record, which is there already
            assert eyes.inventory(settings.fleet.name) == before
            assert aws.kinds(before) == WHOLE
            await aws.down(provider)
            assert await provider.belongings() == []
        assert eyes.inventory(settings.fleet.name) == set()


@pytest.mark.thorough
async def test_up_after_a_change_of_the_configuration_changes_what_follows_from_it_and_nothing_else(
    moto_server: Server, tmp_path: Path
) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1")
        before = eyes.inventory()
        moved = aws.config(proxy.endpoint_url, settings.fleet.name, ssh_from="198.51.100.0/24")
        async with aws.provider_of(moved, tmp_path) as provider:
            told = await aws.up(provider, moved, "n1")
        assert [" ".join(line.split(" ")[4:]) for line in told] == [
            "admits SSH from 198.51.100.0/24",
            f"no longer admits {aws.HERE}",
        ]
        assert _admitted(eyes, settings.fleet.name) == ["198.51.100.0/24"]
        larger = aws.config(proxy.endpoint_url, settings.fleet.name, ssh_from="198.51.100.0/24", volume=Size("32 GiB"))
        async with aws.provider_of(larger, tmp_path) as provider:
            assert await aws.up(provider, larger, "n1") == [
                f"made version 2 of the launch template tilefleet-{larger.fleet.name}"
            ]
            assert eyes.inventory() == before
            await aws.down(provider)
        assert eyes.inventory(settings.fleet.name) == set()


def _admitted(eyes: aws.Eyes, fleet: str) -> list[str]:
    groups = eyes.ec2.describe_security_groups(Filters=[{"Name": "tag:tilefleet:fleet", "Values": [fleet]}])["SecurityGroups"]
    return [each["CidrIp"] for group in groups for rule in group["IpPermissions"] for each in rule["IpRanges"]]


@pytest.mark.parametrize("kind", [pytest.param("refused", marks=pytest.mark.thorough), "lost"])
async def test_up_and_down_said_again_converge_though_every_call_fails_once(
    moto_server: Server, tmp_path: Path, kind: Kind
) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        fleet = settings.fleet.name
        account = Account(settings)
        before = eyes.inventory()
        try:
            await _again_and_again(
                proxy, kind, lambda: aws.up(aws.a_provider(settings, tmp_path, account), settings, "n1", "n2", may_refuse=True)
            )
            assert aws.kinds(eyes.inventory(fleet)) == WHOLE
            assert (CHANGES_OF_UP if kind == "lost" else CHANGES_OF_UP | LOOKS_OF_UP) - set(proxy.spent.values()) == set()
            proxy.spent.clear()
            await _again_and_again(proxy, kind, lambda: aws.down(aws.a_provider(settings, tmp_path, account)))
            assert (CHANGES_OF_DOWN if kind == "lost" else CHANGES_OF_DOWN | LOOKS_OF_DOWN) - set(proxy.spent.values()) == set()
        finally:
            await account.close()
        assert eyes.inventory() == before


async def _again_and_again(proxy: Proxy, kind: Kind, command: Callable[[], Awaitable[object]]) -> None:
    """Until nothing new fails: what the tries before did is there."""
    for _ in range(TRIES):
        proxy.arm_each(kind)
        try:
            await command()
        except NotAllowed:
            assert proxy.failed
        if not proxy.failed:
            return
        await proxy.quiet()
    raise AssertionError(f"something new fails after {TRIES} tries: {proxy.spent}")


@pytest.mark.exhaustive
async def test_up_and_down_do_not_notice_answers_that_are_lost_when_the_sdk_asks_again(
    moto_server: Server, tmp_path: Path
) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        before = eyes.inventory()
        async with aws.provider_of(settings, tmp_path) as provider:
            proxy.arm_each("cut")
            await aws.up(provider, settings, "n1", "n2")
            assert aws.kinds(eyes.inventory(settings.fleet.name)) == WHOLE
            assert CHANGES_OF_UP - set(proxy.spent.values()) == set()
            proxy.spent.clear()
            await aws.down(provider)
            assert CHANGES_OF_DOWN - set(proxy.spent.values()) == set()
        assert eyes.inventory() == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["refused", "lost"])
@pytest.mark.parametrize("shard", range(SHARDS))
async def test_up_converges_after_a_failure_of_any_call(moto_server: Server, tmp_path: Path, shard: int, kind: Kind) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        account = Account(settings)
        failed = 0
        try:
            for number in range(shard, 1000, SHARDS):
                if not await _fails_and_converges(proxy, settings, account, tmp_path, number, kind):
                    break
                assert aws.kinds(eyes.inventory(settings.fleet.name)) == WHOLE, proxy.failed
                proxy.arm(None)
                await aws.down(aws.a_provider(settings, tmp_path, account))
                assert eyes.inventory(settings.fleet.name) == set()
                failed += 1
        finally:
            await account.close()
    assert failed >= (20 if kind == "lost" else 50) // SHARDS


async def _fails_and_converges(proxy: Proxy, settings: Config, account: Account, state: Path, number: int, kind: Kind) -> bool:
    """False when there are fewer calls than that."""
    proxy.arm(number, kind)
    try:
        await aws.up(aws.a_provider(settings, state, account), settings, "n1", "n2", may_refuse=True)
    except NotAllowed:
        assert proxy.failed
    failed = proxy.failed
    proxy.arm(None)
    await aws.up(aws.a_provider(settings, state, account), settings, "n1", "n2")
    proxy.failed = failed
    return bool(failed)
