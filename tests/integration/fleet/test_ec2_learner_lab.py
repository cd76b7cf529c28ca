"""An AWS Academy Learner Lab: what is given is used as it is, IAM is never called, SSH follows the address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, unique
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import proxy_to

pytestmark = pytest.mark.thorough

GIVEN: dict[str, Any] = {
    "instance_profile": "LabInstanceProfile",
    "key_name": "vockey",
    "max_instances": 500,
    "instance_types": ("t3.large",),
}


def _lab(eyes: aws.Eyes) -> None:
    """What a lab's account has."""
    if "instance profile LabInstanceProfile" not in eyes.inventory():
        eyes.iam.create_instance_profile(InstanceProfileName="LabInstanceProfile")
        eyes.ec2.create_key_pair(KeyName="vockey")


async def test_iam_is_never_called_where_a_profile_is_given(moto_server: Server, tmp_path: Path) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        _lab(eyes)
        before = eyes.inventory()
        settings = aws.config(proxy.endpoint_url, nodes={"coordinator": "node"}, **GIVEN)
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1", "n2")
            one = eyes.instances(settings.fleet.name)[0]
            assert (one["KeyName"], one["IamInstanceProfile"]["Arn"].rpartition("/")[2]) == ("vockey", "LabInstanceProfile")
            await aws.down(provider)
            assert await provider.belongings() == []
        assert [call for call in proxy.calls if call.startswith("iam:")] == []
        assert eyes.inventory() == before


async def test_a_given_security_group_gets_no_rules_of_ours_and_stays(moto_server: Server, tmp_path: Path) -> None:
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        group = eyes.ec2.create_security_group(GroupName=unique("given"), Description="given")["GroupId"]
        rules = eyes.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
        settings = aws.config(moto_server.endpoint_url, security_group=group)
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1")
            assert [one["GroupId"] for one in eyes.instances(settings.fleet.name)[0]["SecurityGroups"]] == [group]
            await aws.down(provider)
        assert eyes.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == rules


async def test_ssh_is_open_to_one_address_and_follows_it(moto_server: Server, tmp_path: Path) -> None:
    fleet = unique("fleet")
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        for address in ("203.0.113.7", "198.51.100.0/24", "198.51.100.0/24", "2001:db8::7"):
            settings = aws.config(moto_server.endpoint_url, fleet, ssh_from=address)
            async with aws.provider_of(settings, tmp_path) as provider:
                await provider.prepare(lambda _: None)
                assert _sources(eyes, fleet) == [address if "/" in address else f"{address}/{128 if ':' in address else 32}"]
        settings = aws.config(moto_server.endpoint_url, fleet, nodes={"coordinator": "node"})
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            assert sorted(source[:3] for source in _sources(eyes, fleet)) == ["203", "sg-"]  # a coordinator in the fleet
        settings = aws.config(moto_server.endpoint_url, fleet, nodes={"transport": "ssm"})
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            assert _sources(eyes, fleet) == []
            await aws.down(provider)


def _sources(eyes: aws.Eyes, fleet: str) -> list[str]:
    group = eyes.ec2.describe_security_groups(Filters=[{"Name": "tag:tilefleet:fleet", "Values": [fleet]}])["SecurityGroups"][0]
    return [
        source.get("CidrIp") or source.get("CidrIpv6") or source["GroupId"]
        for rule in group["IpPermissions"]
        for key in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs")
        for source in rule.get(key, [])
        if (rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) == (22, 22, "tcp")
    ]
