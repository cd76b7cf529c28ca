"""``fleet down`` after a failure of any of its calls: said again, it finishes, and touches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.fleet.ec2.account import Account
from tests.conftest import Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import Answer, Kind, ec2_refusal, proxy_to
from tilefleet.errors import NotAllowed

pytestmark = pytest.mark.thorough

SHARDS = 8  # of the calls, so that they run side by side


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["refused", "lost"])
@pytest.mark.parametrize("shard", range(SHARDS))
async def test_down_finishes_after_a_failure_of_any_call(moto_server: Server, tmp_path: Path, shard: int, kind: Kind) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        account = Account(settings)
        failed = 0
        try:
            for number in range(shard, 1000, SHARDS):
                await aws.up(aws.a_provider(settings, tmp_path, account), settings, "n1")
                proxy.arm(number, kind)
                try:
                    await aws.down(aws.a_provider(settings, tmp_path, account))
                except NotAllowed:
                    assert proxy.failed
                name = proxy.failed
                proxy.arm(None)
                await aws.down(aws.a_provider(settings, tmp_path, account))
                assert eyes.inventory(settings.fleet.name) == set(), name
                if not name:
                    break
                failed += 1
        finally:
            await account.close()
    assert failed >= (12 if kind == "lost" else 40) // SHARDS


async def test_a_group_that_is_still_in_use_is_waited_for(moto_server: Server, tmp_path: Path) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        async with aws.provider_of(settings, tmp_path) as provider:
            await aws.up(provider, settings, "n1")
            in_use: list[Answer] = [ec2_refusal("DependencyViolation")] * 3
            proxy.answers["ec2:DeleteSecurityGroup"] = lambda _: in_use.pop() if in_use else None
            await aws.down(provider)
        assert in_use == []
        assert eyes.inventory(settings.fleet.name) == set()
