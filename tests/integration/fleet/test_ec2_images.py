"""The image by its maker's public parameter (recorded: moto knows Amazon's own only), and who logs in to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.fleet.ec2 import images
from coordinator.fleet.ec2.account import Account
from tests.conftest import Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import Answer, json_answer, proxy_to, xml

pytestmark = pytest.mark.thorough

DESCRIBED = """<DescribeImagesResponse><imagesSet><item><imageId>ami-0f</imageId><architecture>{}</architecture>
<name>debian-12-arm64-20261101</name><rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping><item>
<deviceName>/dev/xvda</deviceName><ebs><volumeSize>30</volumeSize></ebs></item></blockDeviceMapping></item></imagesSet>
</DescribeImagesResponse>"""


@pytest.mark.parametrize(
    ("image", "kind", "user", "parameter"),
    [
        ("al2023", "c7g.large", "ec2-user", "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"),
        ("ubuntu-24.04", "c7i.large", "ubuntu",
         "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"),
        ("ubuntu-22.04", "c7g.large", "ubuntu",
         "/aws/service/canonical/ubuntu/server/22.04/stable/current/arm64/hvm/ebs-gp2/ami-id"),
        ("debian-12", "c7g.large", "admin", "/aws/service/debian/release/12/latest/arm64"),
        ("ami-0f", "c7g.large", "admin", None),
    ],
)  # fmt: skip
async def test_the_newest_image_of_a_system(moto_server: Server, image: str, kind: str, user: str, parameter: str | None) -> None:
    asked: list[str] = []

    def parameters(body: str) -> Answer:
        asked.append(json.loads(body)["Name"])
        return json_answer('{"Parameter": {"Value": "ami-0f"}}')

    with proxy_to(moto_server.endpoint_url) as proxy:
        proxy.answers["ssm:GetParameter"] = parameters
        text = DESCRIBED.format("arm64" if kind.startswith("c7g") else "x86_64")
        proxy.answers["ec2:DescribeImages"] = lambda _: xml(200, text)
        settings = aws.config(proxy.endpoint_url, image=image, instance_types=(kind,))
        account = Account(settings)
        try:
            found = await images.image(account, settings)
        finally:
            await account.close()
    assert found == images.Image("ami-0f", user, "arm64" if "g." in kind else "x86_64", "/dev/xvda", 30)
    assert asked == ([parameter] if parameter else [])


async def test_the_keys_of_another_machine_stay_authorized(moto_server: Server, tmp_path: Path) -> None:
    settings = aws.config(moto_server.endpoint_url)
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        for machine in ("laptop", "coordinator", "laptop"):
            async with aws.provider_of(settings, tmp_path / machine) as provider:
                await provider.prepare(lambda _: None)
        template = eyes.ec2.describe_launch_templates(LaunchTemplateNames=[f"tilefleet-{settings.fleet.name}"])[
            "LaunchTemplates"
        ][0]
        assert template["LatestVersionNumber"] == 2  # the second machine's key came in once
        async with aws.provider_of(settings, tmp_path / "laptop") as provider:
            await aws.down(provider)
