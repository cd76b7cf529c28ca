"""An EC2 instance metadata service on loopback, version 2: a token first, 404 for what is not said, as AWS documents it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from aiohttp import web

INTERRUPTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"


class MetadataService:
    """What it says may be changed while it runs."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.asked = 0
        self.url = ""

    def interrupt(self, within_s: float) -> None:
        """The instance will be terminated then."""
        at = datetime.now(UTC) + timedelta(seconds=within_s)
        self.said[INTERRUPTION] = f'{{"action": "terminate", "time": "{at:%Y-%m-%dT%H:%M:%SZ}"}}'

    def recommend(self) -> None:
        """The instance is at an elevated risk."""
        self.said[REBALANCE] = f'{{"noticeTime": "{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}}'

    async def token(self, request: web.Request) -> web.Response:
        if not request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdecimal():
            return web.Response(status=400)
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return web.Response(text=token)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("X-aws-ec2-metadata-token") not in self.tokens:
            return web.Response(status=401)
        if request.path not in self.said:
            return web.Response(status=404)
        return web.Response(text=self.said[request.path])


@asynccontextmanager
async def metadata_service() -> AsyncIterator[MetadataService]:
    made = MetadataService()
    application = web.Application()
    application.router.add_put("/latest/api/token", made.token)
    application.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()
