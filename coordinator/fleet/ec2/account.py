"""One door to an AWS account: clients that are opened when first needed, a deadline and a clear error for every call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from tilefleet import aws
from tilefleet.backoff import Backoff, persist
from tilefleet.config import Config
from tilefleet.errors import NotFound, Unreachable

T = TypeVar("T")

CALL_DEADLINE_S = 60.0  # three tries of a call that usually answers within one second
LISTING_DEADLINE_S = 120.0  # of all pages together
CONSISTENT_S = 60.0  # what was just made may not be seen everywhere for so long (IAM: tens of seconds)
_SHOWN = {
    "ec2": "EC2",
    "iam": "IAM",
    "ssm": "Systems Manager",
    "sts": "STS",
    "s3": "S3",
    "sqs": "SQS",
    "pricing": "the price list",
}
_ONCE = {"retries": {"mode": "standard", "total_max_attempts": 1}}
_CLIENTS: dict[str, dict[str, Any]] = {"pricing": _ONCE}  # there is a table for when it does not answer, and a person waits
_SETTINGS = {"s3": "store.endpoint_url", "sqs": "queues.endpoint_url"}


class Account:
    """The account of the credentials in force, in the configured region."""

    def __init__(self, config: Config) -> None:
        self.region = aws.region_of(config.ec2.region, config.store.region)
        self.bucket_region = aws.region_of(config.store.region)
        self._where = dict.fromkeys(("ec2", "iam", "ssm", "sts"), (self.region, config.ec2.endpoint_url)) | {
            "pricing": ("us-east-1", config.ec2.endpoint_url),  # the only region that has all prices
            "s3": (self.bucket_region, config.store.endpoint_url),
            "sqs": (aws.region_of(config.queues.region), config.queues.endpoint_url),
        }
        self._stack = AsyncExitStack()
        self._clients: dict[str, Any] = {}
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Let go of connections."""
        self._clients.clear()
        await self._stack.aclose()

    async def call(
        self,
        service: str,
        operation: str,
        *,
        what: str = "",
        mend: str = "",
        deadline_s: float = CALL_DEADLINE_S,
        **parameters: Any,
    ) -> Any:
        """One call. ``what`` and ``mend``: see ``tilefleet.aws.errors``."""
        client = await self._client(service)
        with aws.errors(what or _shown(service, operation), mend, setting=_SETTINGS.get(service, "ec2.endpoint_url")):
            async with asyncio.timeout(deadline_s):
                return await getattr(client, operation)(**parameters)

    async def list(self, service: str, operation: str, key: str, *, what: str = "", **parameters: Any) -> list[Any]:
        """All pages of a listing: what stands under ``key`` in each."""
        client = await self._client(service)
        with aws.errors(what or _shown(service, operation), setting=_SETTINGS.get(service, "ec2.endpoint_url")):
            async with asyncio.timeout(LISTING_DEADLINE_S):
                pages = client.get_paginator(operation).paginate(**parameters)
                return [item async for page in pages for item in page.get(key, ())]

    async def number(self) -> str:
        """The account's twelve digits."""
        answer = await self.call("sts", "get_caller_identity")
        return str(answer["Account"])

    async def _client(self, service: str) -> Any:
        async with self._opening:
            if service not in self._clients:
                region, endpoint_url = self._where[service]
                opened = aws.client(service, region=region, endpoint_url=endpoint_url, config=_CLIENTS.get(service))
                self._clients[service] = await self._stack.enter_async_context(opened)
        return self._clients[service]


async def consistent(call: Callable[[], Awaitable[T]], *, for_s: float = CONSISTENT_S) -> T:
    """The answer of a call about something that was just made: not found is asked again for a while."""
    return await persist(
        call, for_s=for_s, backoff=Backoff(0.2, 3.0), is_worth_it=lambda error: error.is_retryable or isinstance(error, NotFound)
    )


async def until(is_done: Callable[[], Awaitable[bool]], *, for_s: float, sentence: str) -> None:
    """Wait until something has happened. Raises Unreachable with the sentence when the time is over."""
    backoff = Backoff(0.2, 5.0)
    try:
        async with asyncio.timeout(for_s):
            while not await is_done():
                await backoff.sleep()
    except TimeoutError as error:
        raise Unreachable(sentence) from error


async def absent_is_fine(call: Awaitable[Any]) -> bool:
    """Make a call that removes something; False when it was gone already."""
    try:
        await call
    except NotFound:
        return False
    return True


def _shown(service: str, operation: str) -> str:
    return f"{_SHOWN[service]} ({''.join(word.capitalize() for word in operation.split('_'))})"
