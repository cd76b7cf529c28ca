"""Launching: once for each node, in the pool that has something, never over the cap; refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from msgspec.structs import replace

from coordinator.fleet.ports import Wanted
from tests.conftest import Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import Answer, Proxy, ec2_refusal, proxy_to
from tilefleet.errors import BadConfig, BadInput, DoesNotFit, NotAllowed, NotFound

pytestmark = pytest.mark.thorough

RUN = "ec2:RunInstances"


@pytest.fixture
def proxy(moto_server: Server) -> Iterator[Proxy]:
    with proxy_to(moto_server.endpoint_url) as opened:
        yield opened


@pytest.fixture
def eyes(moto_server: Server) -> Iterator[aws.Eyes]:
    with aws.Eyes(moto_server.endpoint_url) as opened:
        yield opened


def _refusing(proxy: Proxy, code: str, *, having: str = "", times: int = 1000) -> list[str]:
    """RunInstances with this text in it is refused so often; the pools that were asked, ``c7i.xlarge spot``."""
    asked: list[str] = []

    def answer(body: str) -> Answer | None:
        form = parse_qs(body)
        market = form.get("InstanceMarketOptions.MarketType", ["on-demand"])[0]
        asked.append(f"{form['InstanceType'][0]} {market}")
        is_refused = having in asked[-1] and sum(having in one for one in asked) <= times
        return ec2_refusal(code) if is_refused else None

    proxy.answers[RUN] = answer
    return asked


async def test_a_machine_is_tagged_for_its_node_and_so_is_its_volume(proxy: Proxy, eyes: aws.Eyes, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url, nodes={"coordinator": "node"})
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        machines, refused = await provider.launch([Wanted("n1"), Wanted("n2", "coordinator")])
        assert refused == []
        assert [(m.node, m.role, m.user, m.kind, m.market, m.architecture) for m in machines] == [
            ("n1", "worker", "ec2-user", "c7i.xlarge", "on-demand", "x86_64"),
            ("n2", "coordinator", "ec2-user", "c7i.xlarge", "on-demand", "x86_64"),
        ]
        found = {one["InstanceId"]: one for one in eyes.instances(settings.fleet.name)}
        tags = {tag["Key"]: tag["Value"] for tag in found[machines[1].id]["Tags"]}
        own = {"tilefleet:fleet": settings.fleet.name, "tilefleet:node": "n2", "tilefleet:role": "coordinator",
               "tilefleet:store": settings.store.url, "Name": f"{settings.fleet.name}-n2"}  # fmt: skip
        assert own.items() <= tags.items()
        assert found[machines[1].id]["IamInstanceProfile"]["Arn"].endswith(f"tilefleet-{settings.fleet.name}-coordinator")
        volumes = eyes.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [machines[0].id]}])["Volumes"]
        assert all({"Key": "tilefleet:node", "Value": "n1"} in volume["Tags"] for volume in volumes)
        assert sorted(m.node for m in await provider.machines()) == ["n1", "n2"]
        await aws.down(provider)


async def test_asked_again_it_is_the_same_machine_also_without_a_token(
    eyes: aws.Eyes, moto_server: Server, tmp_path: Path
) -> None:
    settings = aws.config(moto_server.endpoint_url)  # past the proxy: moto makes another one for the same token
    async with aws.provider_of(settings, tmp_path) as provider:
        await aws.up(provider, settings, "n1")
    async with aws.provider_of(settings, tmp_path) as provider:
        await aws.up(provider, settings, "n1", "n2")
        assert len(eyes.instances(settings.fleet.name)) == 2
        await aws.down(provider)


async def test_only_the_first_launch_asks_for_all_that_instances_need_and_one_after_something_is_gone(
    proxy: Proxy, tmp_path: Path
) -> None:
    settings = aws.config(proxy.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await aws.up(provider, settings, "n1")
    async with aws.provider_of(settings, tmp_path) as provider:  # as a keeper has it
        proxy.arm(None)
        await provider.machines()
        assert proxy.calls == ["ec2:DescribeInstances"]
        await provider.launch([Wanted("n2")])
        proxy.arm(None)
        await provider.launch([Wanted("n3")])
        assert proxy.calls == ["ec2:DescribeInstances", "ec2:DescribeInstanceTypeOfferings", RUN]
        gone = _refusing(proxy, "InvalidAMIID.NotFound", times=1)
        with pytest.raises(NotFound):
            await provider.launch([Wanted("n4")])
        proxy.arm(None)
        await provider.launch([Wanted("n4")])
        assert "ec2:DescribeImages" in proxy.calls
        assert len(gone) == 2
        await aws.down(provider)


async def test_where_one_type_is_sold_out_the_next_is_taken(proxy: Proxy, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        asked = _refusing(proxy, "InsufficientInstanceCapacity", having="c7i")
        machines, refused = await provider.launch([Wanted("n1")])
        assert ([machine.kind for machine in machines], refused) == (["c6i.xlarge"], [])
        assert asked == ["c7i.xlarge on-demand"] * (len(asked) - 1) + ["c6i.xlarge on-demand"]
        await aws.down(provider)


async def test_spot_falls_back_to_on_demand_where_that_is_allowed(proxy: Proxy, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url, market="spot-or-on-demand")
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        asked = _refusing(proxy, "MaxSpotInstanceCountExceeded", having="spot")
        machines, _ = await provider.launch([Wanted("n1")])
        assert machines[0].market == "on-demand"
        assert [one.split()[1] for one in asked] == ["spot", "on-demand"]  # a quota is the same in every pool
        await aws.down(provider)


async def test_a_coordinator_is_never_spot(proxy: Proxy, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url, market="spot", nodes={"coordinator": "node"})
    async with aws.provider_of(settings, tmp_path) as provider:
        await aws.up(provider, settings, "n1")
        found, _ = await provider.launch([Wanted("n2", "coordinator"), Wanted("n3")])
        assert [(one.node, one.role, one.market) for one in found] == [
            ("n2", "coordinator", "on-demand"),
            ("n3", "worker", "spot"),
        ]


async def test_when_no_pool_has_any_every_one_is_named(proxy: Proxy, eyes: aws.Eyes, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url, market="spot", zones=("us-east-1a",))
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        _refusing(proxy, "InsufficientInstanceCapacity")
        with pytest.raises(
            DoesNotFit, match=r"n1 could not be launched: .*c7i\.xlarge spot in us-east-1a.*: no capacity just now"
        ):
            await provider.launch([Wanted("n1")])
        assert eyes.instances(settings.fleet.name) == []
        await aws.down(provider)


async def test_what_could_not_be_launched_is_told_beside_what_could(proxy: Proxy, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url, max_instances=0, zones=("us-east-1a",), instance_types=("c7i.xlarge",))
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        _refusing(proxy, "VcpuLimitExceeded", times=1)
        machines, refused = await provider.launch([Wanted("n1"), Wanted("n2")])
        assert (len(machines), len(refused)) == (1, 1)
        assert "the account's quota is used up (VcpuLimitExceeded)" in refused[0].reason
        await aws.down(provider)


async def test_a_profile_that_is_not_known_yet_is_waited_for(proxy: Proxy, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        said = (
            "<Response><Errors><Error><Code>InvalidParameterValue</Code><Message>Value (x) for parameter iamInstanceProfile.name"
        )
        said += " is invalid. Invalid IAM Instance Profile name</Message></Error></Errors></Response>"
        answers = [Answer(400, said.encode())] * 2
        proxy.answers[RUN] = lambda _: answers.pop() if answers else None
        assert len((await provider.launch([Wanted("n1")]))[0]) == 1
        await aws.down(provider)


async def test_a_node_that_was_made_in_another_pool_is_found(proxy: Proxy, tmp_path: Path) -> None:
    """The answer of the first try is lost, and EC2 shows its instance late; the token says that it is there."""
    settings = aws.config(proxy.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await aws.up(provider, settings, "n1")
    hidden = [b"<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"] * 2
    proxy.answers["ec2:DescribeInstances"] = lambda _: Answer(200, hidden.pop()) if hidden else None
    _refusing(proxy, "IdempotentParameterMismatch")
    async with aws.provider_of(settings, tmp_path) as provider:
        assert len((await provider.launch([Wanted("n1")]))[0]) == 1
        await aws.down(provider)


async def test_the_cap_counts_every_instance_of_the_account(proxy: Proxy, eyes: aws.Eyes, tmp_path: Path) -> None:
    running = len([one for one in eyes.inventory() if one.startswith("instance i-")])
    eyes.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)  # somebody else's
    settings = aws.config(proxy.endpoint_url, max_instances=running + 3)
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        machines, refused = await provider.launch([Wanted(f"n{number}") for number in range(1, 6)])
        assert (len(machines), len(refused)) == (2, 3)
        assert refused[0].reason.startswith(f"n3 was not launched: {running + 3} instances run in us-east-1 already")
        with pytest.raises(DoesNotFit, match=r"ec2\.max_instances"):
            await provider.launch([Wanted("n6")])
        assert len(eyes.instances(settings.fleet.name)) == 2
        await provider.terminate(machines[:1])
        assert len((await provider.launch([Wanted("n7")]))[0]) == 1
        await aws.down(provider)


async def test_the_cap_also_holds_for_what_is_started_again(proxy: Proxy, eyes: aws.Eyes, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await aws.up(provider, settings, "n1", "n2")
        machines = await provider.machines()
        await provider.stop(machines)
        there = eyes.ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}])
        running = sum(len(each["Instances"]) for each in there["Reservations"])
        capped = replace(settings, ec2=replace(settings.ec2, max_instances=running + 1))
        async with aws.provider_of(capped, tmp_path) as careful:
            with pytest.raises(
                DoesNotFit, match=rf"were not started: {running} instances run .* ec2\.max_instances is {running + 1}"
            ):
                await careful.start(machines)
            assert {one["State"]["Name"] for one in eyes.instances(settings.fleet.name)} == {"stopped"}
            await careful.start(machines[:1])
        await aws.down(provider)


async def test_without_permission_nothing_else_is_tried(proxy: Proxy, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        asked = _refusing(proxy, "UnauthorizedOperation")
        with pytest.raises(NotAllowed, match="RunInstances"):
            await provider.launch([Wanted("n1")])
        assert len(asked) == 1
        await aws.down(provider)


async def test_stop_start_and_what_cannot_be_stopped(proxy: Proxy, eyes: aws.Eyes, tmp_path: Path) -> None:
    settings = aws.config(proxy.endpoint_url, market="spot-or-on-demand")
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        _refusing(proxy, "InsufficientInstanceCapacity", having="spot", times=100)
        machines, _ = await provider.launch([Wanted("n1")])
        await provider.stop(machines)
        assert [machine.state for machine in await provider.machines()] == ["stopped"]
        await provider.start(machines)
        assert [machine.state for machine in await provider.machines()] == ["running"]
        del proxy.answers[RUN]
        spot, _ = await provider.launch([Wanted("n2")])
        assert spot[0].market == "spot"
        with pytest.raises(BadInput, match=f"the instance {spot[0].id} cannot be stopped, being spot"):
            await provider.stop([*machines, *spot])
        states = {machine.node: machine.state for machine in await provider.machines()}
        assert states == {"n1": "stopped", "n2": "running"}
        await aws.down(provider)
        assert {machine.state for machine in await provider.machines()} == {"gone"}


@pytest.mark.parametrize(
    ("ec2", "sentence"),
    [
        (
            {"instance_types": ("c7i.xlarge", "c7g.xlarge")},
            "must be of one architecture.*c7i.xlarge is x86_64, c7g.xlarge is arm64",
        ),
        ({"image": "windows"}, "ec2.image must be al2023"),
        ({"zones": ("us-east-1x",)}, "no default or public subnets in us-east-1x"),
        ({"ssh_from": "everywhere"}, "ec2.ssh_from must be an address or a CIDR"),
    ],
)
async def test_mistakes_in_the_configuration_are_said(
    moto_server: Server, tmp_path: Path, ec2: dict[str, Any], sentence: str
) -> None:
    settings = aws.config(moto_server.endpoint_url, **ec2)
    async with aws.provider_of(settings, tmp_path) as provider:
        with pytest.raises(BadConfig, match=sentence):
            await provider.prepare(lambda _: None)
        await aws.down(provider)
