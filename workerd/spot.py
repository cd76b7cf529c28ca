"""What EC2 says about the near end of this instance, and what follows from it.

The instance metadata service (IMDSv2: a token first) is asked every ``POLL_S``. An interruption notice names the time, two
minutes ahead at best; a rebalance recommendation may come before it, or alone. Both mean the same to a worker: take nothing
new, finish what fits in the time, give the rest back. Whatever goes wrong here is logged and disturbs no job.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

import msgspec
import structlog

log = structlog.get_logger()

POLL_S = 5.0  # as AWS recommends
TIMEOUT_S = 2.0  # the service is on the machine itself
NOTICE_S = 120.0  # the longest notice there is: a clock that is wrong must not make more of it
MARGIN_S = 15.0  # for the last completions, giving back, and goodbye
TOKEN_TTL_S = 6 * 3600  # the longest there is

TOKEN = "latest/api/token"  # noqa: S105 - a path
INTERRUPTION = "latest/meta-data/spot/instance-action"
REBALANCE = "latest/meta-data/events/recommendations/rebalance"


class Notice(NamedTuple):
    """The instance is about to be taken away."""

    kind: Literal["interruption", "rebalance"]
    at: float | None = None
    """When, in seconds since 1970; None when that is not known."""
    action: str = ""
    """terminate, stop or hibernate."""

    @property
    def reason(self) -> str:
        """For the log and for the coordinator."""
        if self.kind == "rebalance":
            return "EC2 recommends to leave this spot instance"
        return f"EC2 takes this spot instance away ({self.action})"


class _Action(msgspec.Struct):
    action: str
    time: datetime


def parse(kind: Literal["interruption", "rebalance"], body: bytes) -> Notice:
    """The notice in an answer of the service. One that cannot be read is a notice all the same: it is there."""
    if kind == "rebalance":
        return Notice(kind)
    try:
        said = msgspec.json.decode(body, type=_Action)
    except (msgspec.DecodeError, UnicodeError):
        return Notice(kind)
    return Notice(kind, said.time.timestamp(), said.action)


def time_left_s(notice: Notice, now: float) -> float:
    """How long work may still go on; ``now`` is the time of day."""
    left_s = NOTICE_S if notice.at is None else min(notice.at - now, NOTICE_S)
    return max(0.0, left_s - MARGIN_S)


class Metadata:
    """The metadata service at ``url``; ``notices`` asks what there is."""

    def __init__(self, url: str, http: Any) -> None:
        self._url = url.rstrip("/")
        self._http = http
        self._token = ""

    async def notices(self) -> list[Notice]:
        """What stands there just now, the most urgent first. Raises what aiohttp raises."""
        if (body := await self._get(INTERRUPTION)) is not None:
            return [parse("interruption", body)]
        if (body := await self._get(REBALANCE)) is not None:
            return [parse("rebalance", body)]
        return []

    async def _get(self, path: str) -> bytes | None:
        for _ in range(2):  # the second time with a new token
            if not self._token:
                self._token = await self._new_token()
            async with self._http.get(f"{self._url}/{path}", headers={"X-aws-ec2-metadata-token": self._token}) as answer:
                if answer.status == HTTPStatus.UNAUTHORIZED:
                    self._token = ""
                    continue
                if answer.status == HTTPStatus.NOT_FOUND:
                    return None
                answer.raise_for_status()
                body: bytes = await answer.read()
                return body
        return None

    async def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
        async with self._http.put(f"{self._url}/{TOKEN}", headers=headers) as answer:
            answer.raise_for_status()
            token: str = await answer.text()
            return token


async def watch(url: str, leave: Callable[[str, float], None]) -> None:
    """Ask until there is an interruption notice; ``leave(reason, within_s)`` is called for each new one."""
    from aiohttp import ClientError, ClientSession, ClientTimeout

    said: set[str] = set()
    is_reachable = True
    async with ClientSession(timeout=ClientTimeout(total=TIMEOUT_S)) as http:
        metadata = Metadata(url, http)
        while "interruption" not in said:
            try:
                notices = await metadata.notices()
                is_reachable = True
            except (ClientError, OSError, TimeoutError, ValueError) as error:
                notices = []
                if is_reachable:
                    log.warning("metadata_unreachable", url=url, error=str(error) or type(error).__name__)
                is_reachable = False
            for notice in notices:
                if notice.kind not in said:
                    said.add(notice.kind)
                    within_s = time_left_s(notice, time.time())
                    log.warning("spot_notice", kind=notice.kind, action=notice.action, within_s=round(within_s, 1))
                    leave(notice.reason, within_s)
            await asyncio.sleep(POLL_S)
