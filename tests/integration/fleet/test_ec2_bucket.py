"""The bucket: made, or given; what in it is the fleet's, and goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.fleet.ec2 import bucket as buckets
from coordinator.fleet.ec2.account import Account
from tests.conftest import Server, unique
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import proxy_to, xml
from tilefleet.errors import BadConfig

pytestmark = pytest.mark.thorough

OURS = ("leader/000001", "control/000001.json", "operations/3f9k2m7q0xyz/record.json", "matrices/3f9k2m7q0xyz/zarr.json",
        "fleet/nodes/n1.json")  # fmt: skip


def _put(eyes: aws.Eyes, bucket: str, *keys: str) -> None:
    for key in keys:
        eyes.s3.put_object(Bucket=bucket, Key=key, Body=b"12345")


def _keys(eyes: aws.Eyes, bucket: str) -> list[str]:
    return [each["Key"] for each in eyes.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


async def test_a_bucket_that_is_made_is_private_encrypted_and_tagged(moto_server: Server, tmp_path: Path) -> None:
    settings = aws.config(moto_server.endpoint_url)
    bucket = f"{settings.fleet.name}-store"
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            blocks = eyes.s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
            assert set(blocks.values()) == {True}
            assert eyes.s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
            tags = {tag["Key"]: tag["Value"] for tag in eyes.s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
            assert tags == {"tilefleet:fleet": settings.fleet.name, "tilefleet:store": settings.store.url}
            _put(eyes, bucket, *(f"below/{key}" for key in OURS))
            told = await aws.down(provider)
        assert f"bucket {bucket}" not in eyes.inventory()
        assert any(line.startswith(f"removed the data {settings.store.url} (5 objects") for line in told)


@pytest.mark.parametrize("foreign", ["C.zarr/zarr.json", "below/mine.npy", "below/matrices/mine.csv", "leader/000001"])
async def test_a_bucket_with_somebody_elses_object_stays_and_so_does_the_object(
    moto_server: Server, tmp_path: Path, foreign: str
) -> None:
    settings = aws.config(moto_server.endpoint_url)
    bucket = f"{settings.fleet.name}-store"
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            _put(eyes, bucket, foreign, *(f"below/{key}" for key in OURS))
            told = await aws.down(provider)
            assert [one.kind for one in await provider.belongings()] == ["bucket"]
        assert _keys(eyes, bucket) == [foreign]
    assert f"left the bucket {bucket}, as it holds 1 objects that are not the fleet's, such as {foreign}" in told


async def test_keeping_the_data_keeps_all_of_it(moto_server: Server, tmp_path: Path) -> None:
    settings = aws.config(moto_server.endpoint_url)
    bucket = f"{settings.fleet.name}-store"
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            _put(eyes, bucket, "below/mine.npy", *(f"below/{key}" for key in OURS))
            before = _keys(eyes, bucket)
            kept = [one for one in await provider.belongings() if one.kind not in {"data", "bucket"}]
            await provider.remove(kept, lambda _: None)
            await provider.remove([one for one in await provider.belongings() if one.kind == "bucket"], lambda _: None)
            assert _keys(eyes, bucket) == before
            await aws.down(provider)


async def test_of_a_bucket_that_was_given_only_our_keys_below_our_prefix_go(moto_server: Server, tmp_path: Path) -> None:
    bucket = unique("given")
    settings = aws.config(moto_server.endpoint_url, store=f"s3://{bucket}/team/fleet")
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        eyes.s3.create_bucket(Bucket=bucket)
        theirs = ["leader/000001", "team/fleet/notes.txt", "team/fleet2/leader/000001", "team/leader/000001"]
        _put(eyes, bucket, *theirs)
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            with pytest.raises(eyes.s3.exceptions.ClientError, match="NoSuchTagSet"):
                eyes.s3.get_bucket_tagging(Bucket=bucket)
            _put(eyes, bucket, *(f"team/fleet/{key}" for key in OURS))
            await aws.down(provider)
            assert await provider.belongings() == []
        assert _keys(eyes, bucket) == sorted(theirs)


async def test_many_objects_go_in_batches(moto_server: Server, tmp_path: Path) -> None:
    settings = aws.config(moto_server.endpoint_url)
    bucket = f"{settings.fleet.name}-store"
    with aws.Eyes(moto_server.endpoint_url) as eyes:
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            _put(eyes, bucket, *(f"below/matrices/3f9k2m7q0xyz/c/{number}" for number in range(1001)))
            await aws.down(provider)
        assert f"bucket {bucket}" not in eyes.inventory()


async def test_each_page_of_a_listing_goes_before_the_next_is_asked_for(moto_server: Server, tmp_path: Path) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        where = buckets.place(settings.store.url)
        eyes.s3.create_bucket(Bucket=where.bucket)
        _put(eyes, where.bucket, "below/mine.npy", *(f"below/matrices/3f9k2m7q0xyz/c/{number}" for number in range(1001)))
        account = Account(settings)
        proxy.arm(None)
        try:
            assert await buckets.empty(account, where) == 1001
        finally:
            await account.close()
        assert [name.startswith("s3:GET") for name in proxy.calls] == [True, False, True, False], proxy.calls
        assert _keys(eyes, where.bucket) == ["below/mine.npy"]


async def test_a_name_that_was_just_given_up_is_asked_for_until_it_is_free(moto_server: Server, tmp_path: Path) -> None:
    with proxy_to(moto_server.endpoint_url) as proxy, aws.Eyes(moto_server.endpoint_url) as eyes:
        settings = aws.config(proxy.endpoint_url)
        text = "<Error><Code>OperationAborted</Code><Message>A conflicting conditional operation is in progress</Message></Error>"
        busy = [xml(409, text)] * 2
        proxy.answers["s3:PUT"] = lambda _: busy.pop() if busy else None
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            assert busy == []
            assert f"bucket {settings.fleet.name}-store" in eyes.inventory()
            await aws.down(provider)


def test_a_store_that_is_not_in_s3_is_refused(tmp_path: Path) -> None:
    settings = aws.config("http://127.0.0.1:9", store="file:///somewhere")
    with pytest.raises(BadConfig, match=r'store\.url: instances reach a store in S3 only; write "s3://bucket/prefix"'):
        aws.a_provider(settings, tmp_path)
