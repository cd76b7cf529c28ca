"""The bucket of the store, and what of it is the fleet's.

The rules: a bucket that exists is used as it is, none of its settings is touched; one that is made is private, encrypted and
tagged. That it is being made is written down before, so that a try that broke off in the middle is finished by the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from coordinator.fleet.ec2 import tags
from coordinator.fleet.ec2.account import Account, consistent
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.ports import Tell
from tilefleet import layout
from tilefleet.aws import code_of
from tilefleet.backoff import Backoff, persist
from tilefleet.config import Config
from tilefleet.errors import AlreadyExists, BadConfig, NotAllowed, NotFound, TilefleetError
from tilefleet.local_state import write_private

MADE_WITHIN_S = 120.0  # of a name that was just deleted S3 says OperationAborted for a while


class Place(NamedTuple):
    """A bucket, and the prefix in it under which a store's keys lie: empty, or with a slash at its end."""

    bucket: str
    prefix: str


class Contents(NamedTuple):
    """What lies in a bucket."""

    ours: int
    """Objects of the store's own layout."""
    ours_bytes: int
    others: int
    """Objects of anybody else: results that were written to places of the user's own, for one."""
    others_bytes: int
    example: str
    """Key of one of those."""


def place(store_url: str) -> Place:
    """Where a store lies. Raises BadConfig unless that is in S3."""
    parts = urlsplit(store_url, allow_fragments=False)
    if parts.scheme != "s3" or not parts.netloc:
        raise BadConfig(f'store.url: instances reach a store in S3 only; write "s3://bucket/prefix" instead of {store_url!r}')
    prefix = parts.path.strip("/")
    return Place(parts.netloc, f"{prefix}/" if prefix else "")


async def ensure(account: Account, config: Config, files: FleetFiles, tell: Tell) -> bool:
    """Make the bucket if there is none. Whether it is the fleet's own."""
    bucket = place(config.store.url).bucket
    begun = files.root / "bucket-being-made"
    if not await _exists(account, bucket):
        write_private(begun, bucket.encode())
        await _create(account, bucket)
        tell(f"made the bucket {bucket} in {account.bucket_region}")
    elif not begun.exists() or begun.read_text(encoding="utf-8") != bucket:
        return await belongs_to(account, bucket) == config.fleet.name
    elif await _is_used(account, config, bucket):  # somebody else made it meanwhile
        begun.unlink()
        return False
    await _mark(account, config, bucket)
    begun.unlink()
    return True


async def _exists(account: Account, bucket: str) -> bool:
    what = f"the bucket {bucket}"
    try:
        await account.call("s3", "head_bucket", Bucket=bucket, what=what)
    except NotFound:
        return False
    except NotAllowed as error:
        if code_of(error) != "403":
            raise
        raise NotAllowed(
            f"{what} cannot be used: it is another account's (names of buckets are the world's), or these credentials may not "
            "list it; choose another name in store.url or ask for s3:ListBucket"
        ) from error
    return True


async def _create(account: Account, bucket: str) -> None:
    elsewhere: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": account.bucket_region}}
    what = f"the bucket {bucket}"
    mend = "choose another name in store.url: names of buckets are the world's"
    parameters = elsewhere if account.bucket_region != "us-east-1" else {}
    try:
        await persist(
            lambda: account.call("s3", "create_bucket", Bucket=bucket, what=what, mend=mend, **parameters),
            for_s=MADE_WITHIN_S,
            backoff=Backoff(0.5, 10.0),
            is_worth_it=lambda error: code_of(error) == "OperationAborted",
        )
    except AlreadyExists as error:
        if code_of(error) != "BucketAlreadyOwnedByYou":  # by a try before this one
            raise


async def _is_used(account: Account, config: Config, bucket: str) -> bool:
    its = await tags_of(account, bucket)
    there = await contents(account, Place(bucket, ""), is_whole=True)
    return bool(there.ours or there.others or (its and its.get(tags.FLEET) != config.fleet.name))


async def _mark(account: Account, config: Config, bucket: str) -> None:
    own = [{"Key": tags.FLEET, "Value": config.fleet.name}, {"Key": tags.STORE, "Value": config.store.url}]
    private = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    encrypted = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    calls: dict[str, dict[str, Any]] = {
        "put_bucket_tagging": {"Tagging": {"TagSet": own}},
        "put_public_access_block": {"PublicAccessBlockConfiguration": dict.fromkeys(private, True)},
        "put_bucket_encryption": {"ServerSideEncryptionConfiguration": encrypted},
    }
    for operation, parameters in calls.items():
        await consistent(lambda: account.call("s3", operation, Bucket=bucket, **parameters))  # noqa: B023 - awaited at once


async def tags_of(account: Account, bucket: str) -> tags.Tags:
    """Tags of a bucket; none for one without, or that is gone."""
    try:
        answer = await account.call("s3", "get_bucket_tagging", Bucket=bucket)
    except NotFound:
        return {}
    except TilefleetError as error:
        if code_of(error) == "NoSuchTagSet":
            return {}
        raise
    return tags.read(answer["TagSet"])


async def belongs_to(account: Account, bucket: str) -> str:
    """The fleet that made a bucket; empty when none did, or it is gone."""
    return (await tags_of(account, bucket)).get(tags.FLEET, "")


async def contents(account: Account, where: Place, *, is_whole: bool) -> Contents:
    """How much lies below the store's prefix, or in the whole bucket, and whose it is. Of a bucket that is gone: nothing."""
    ours = ours_bytes = others = others_bytes = 0
    example = ""
    try:
        async for page in _pages(account, where.bucket, "" if is_whole else where.prefix):
            for each in page:
                if _is_ours(where, each["Key"]):
                    ours, ours_bytes = ours + 1, ours_bytes + each["Size"]
                else:
                    others, others_bytes, example = others + 1, others_bytes + each["Size"], example or each["Key"]
    except NotFound:
        pass
    return Contents(ours, ours_bytes, others, others_bytes, example)


def _is_ours(where: Place, key: str) -> bool:
    return key.startswith(where.prefix) and layout.is_own(key[len(where.prefix) :])


async def empty(account: Account, where: Place) -> int:
    """Remove what is the store's own, and nothing else; how many objects that were. What is listed goes before more is listed:
    a try that breaks off leaves less to the next."""
    n_removed = 0
    async for page in _pages(account, where.bucket, where.prefix):
        keys = [each["Key"] for each in page if _is_ours(where, each["Key"])]
        if keys:
            await _delete(account, where.bucket, keys)
        n_removed += len(keys)
    return n_removed


async def _pages(account: Account, bucket: str, prefix: str) -> AsyncIterator[list[Any]]:
    """The objects, a thousand at a time; the deadline is for each request, as there may be millions."""
    on: dict[str, Any] = {}
    while True:
        answer = await account.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, **on)
        yield answer.get("Contents", [])
        if not answer.get("IsTruncated"):
            return
        on = {"ContinuationToken": answer["NextContinuationToken"]}


async def _delete(account: Account, bucket: str, keys: Sequence[str]) -> None:
    """At most a thousand, S3's limit, which is a page's too."""
    some = [{"Key": key} for key in keys]
    answer = await account.call("s3", "delete_objects", Bucket=bucket, Delete={"Objects": some, "Quiet": True})
    if errors := answer.get("Errors"):
        first = errors[0]
        raise NotAllowed(
            f"s3://{bucket}/{first.get('Key')} cannot be removed ({first.get('Code')}: {first.get('Message')}), and "
            f"{len(errors) - 1} more; ask for s3:DeleteObject there"
        )
