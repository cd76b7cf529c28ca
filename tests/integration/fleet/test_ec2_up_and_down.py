"""``fleet up`` on EC2 converges, whichever call fails on the way, and ``fleet down`` leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from coordinator.fleet.ec2.account import Account
from tests.conftest import Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import Proxy, is_read, proxy_to
from tilefleet.config import Config
from tilefleet.errors import NotAllowed

SHARDS = 10  # of the calls, so that they run side by side
WHOLE = sorted(
    ["bucket", "instance", "instance", "instance profile", "launch template", "role", "security group"]
    + ["queue"] * 6
    + ["volume"] * 4  # moto gives an instance the image's own and the template's
)


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused", "lost"])
@pytest.mark.parametrize("shard", range(SHARDS))
async def test_up_converges_after_a_failure_of_any_call(
    moto_server: Server, tmp_path: Path, shard: int, kind: Literal["refused", "lost"]
) -> None:
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


async def _fails_and_converges(
    proxy: Proxy, settings: Config, account: Account, state: Path, number: int, kind: Literal["refused", "lost"]
) -> bool:
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
