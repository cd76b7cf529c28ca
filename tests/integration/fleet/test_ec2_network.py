"""Where nodes stand, and what AWS shows late."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from coordinator.fleet.ec2 import network
from tests.conftest import Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import Answer, ec2_refusal, proxy_to, xml
from tilefleet.errors import Unreachable

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(("said", "cidr"), [("203.0.113.9\n", "203.0.113.9/32"), ("2001:db8::1", "2001:db8::1/128")])
async def test_the_public_address_is_asked_for(said: str, cidr: str) -> None:
    assert await _asked(said) == cidr


@pytest.mark.parametrize("said", ["", "<html>log in to this network</html>", "0.0.0.0/0"])
async def test_what_is_no_address_opens_no_port(said: str) -> None:
    with pytest.raises(Unreachable, match=r"say in ec2\.ssh_from who may reach port 22"):
        await _asked(said)


async def _asked(said: str) -> str:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_: object) -> None:
            """No line for each request."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    try:
        return await network.own_cidr(f"http://127.0.0.1:{server.server_port}")
    finally:
        thread.join()
        server.server_close()


async def test_the_address_is_the_public_one_unless_the_private_one_is_wanted(moto_server: Server, tmp_path: Path) -> None:
    settings = aws.config(moto_server.endpoint_url)
    inside = aws.config(moto_server.endpoint_url, settings.fleet.name, address="private")
    async with aws.provider_of(settings, tmp_path) as provider, aws.provider_of(inside, tmp_path) as neighbour:
        await aws.up(provider, settings, "n1")
        with aws.Eyes(moto_server.endpoint_url) as eyes:
            (instance,) = eyes.instances(settings.fleet.name)
        assert [one.address for one in await provider.machines()] == [instance["PublicIpAddress"]]
        assert [one.address for one in await neighbour.machines()] == [instance["PrivateIpAddress"]]
        await aws.down(provider)


async def test_what_was_just_made_may_be_shown_late(moto_server: Server, tmp_path: Path) -> None:
    late: dict[str, list[Answer]] = {
        "ec2:AuthorizeSecurityGroupIngress": [ec2_refusal("InvalidGroup.NotFound")],
        "ec2:DescribeLaunchTemplateVersions": [ec2_refusal("InvalidLaunchTemplateId.NotFound")],
        "ec2:RunInstances": [ec2_refusal("InvalidLaunchTemplateId.VersionNotFound"), ec2_refusal("InvalidGroup.NotFound")],
        "iam:PutRolePolicy": [_no_such_entity()],
        "iam:AddRoleToInstanceProfile": [_no_such_entity()],
    }
    with proxy_to(moto_server.endpoint_url) as proxy:
        for name, answers in late.items():
            proxy.answers[name] = lambda _, answers=answers: answers.pop() if answers else None  # type: ignore[misc]
        settings = aws.config(proxy.endpoint_url)
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1")
            assert late == {name: [] for name in late}
            await aws.down(provider)


async def test_an_s3_endpoint_that_is_there_is_used_and_stays(moto_server: Server, tmp_path: Path) -> None:
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        vpc = eyes.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        subnet = eyes.ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
        eyes.ec2.create_vpc_endpoint(VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway")
        before = eyes.inventory()
        settings = aws.config(moto_server.endpoint_url, s3_endpoint=True, subnets=(subnet,))
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1")
            assert eyes.instances(settings.fleet.name)[0]["SubnetId"] == subnet
            assert "VPC endpoint" not in aws.kinds(eyes.inventory() - before)
            await aws.down(provider)
        assert eyes.inventory() == before


async def test_an_s3_endpoint_of_ours_stays_while_others_use_it(moto_server: Server, tmp_path: Path) -> None:
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        vpc = eyes.ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
        subnet = eyes.ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
        other = eyes.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]
        settings = aws.config(moto_server.endpoint_url, s3_endpoint=True, subnets=(subnet,))
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1")
            told = await aws.down(provider)
            assert any(line.startswith("left the VPC endpoint ") and other["InstanceId"] in line for line in told)
            assert aws.kinds(eyes.inventory(settings.fleet.name)) == ["VPC endpoint"]
            eyes.ec2.terminate_instances(InstanceIds=[other["InstanceId"]])
            await aws.down(provider)
        assert eyes.inventory(settings.fleet.name) == set()


def _no_such_entity() -> Answer:
    return xml(404, "<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>not yet</Message></Error></ErrorResponse>")
