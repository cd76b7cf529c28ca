"""A proxy that hurts: between real processes and a stand-in for AWS it fails, loses, repeats, delays and damages what passes.

The rules: nothing is invented (a message is only ever repeated, a body only cut or one bit of it turned); what is hurt is drawn
from a seed; each hurt is counted under its name. ``hurts`` may be changed at any time. What was signed by a clock that is wrong
is refused, as AWS does.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from tests.faults import refusals
from tilefleet.matrix import tile_of_key

LONGEST_BODY_BYTES = 256 * 2**20
BLACK_HOLE_S = 120.0  # longer than any client of ours waits
ANSWERS = {
    "refuse": refusals.unavailable, "throttle": refusals.throttled, "deny": refusals.denied, "skewed": refusals.skewed,
}  # fmt: skip
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade", "expect"}


@dataclass(frozen=True)
class Hurts:
    """Probabilities by kind, of all that passes; together at most 1. ``delay_s`` says how long a delay is at most."""

    refuse: float = 0.0
    """Answered with an error of the server; it never arrives."""
    lose: float = 0.0
    """It arrives and has its effect; the answer is an error of the server."""
    throttle: float = 0.0
    """Answered as S3 (SlowDown) and SQS (ThrottlingException) do under load."""
    reset: float = 0.0
    """The connection breaks before it arrives."""
    cut_off: float = 0.0
    """It arrives and has its effect; the connection breaks instead of an answer."""
    truncate: float = 0.0
    """Half of the answer's body, then the connection breaks."""
    corrupt: float = 0.0
    """One bit of a tile that is read is turned (what else there is has no checksum of ours: TLS guards it)."""
    delay: float = 0.0
    black_hole: float = 0.0
    """Nothing ever comes back."""
    repeat: float = 0.0
    """A message that was received before is in the next answer once more."""
    deny: float = 0.0
    """Answered as when a policy does not allow it."""
    delay_s: float = 2.0

    def times(self, factor: float) -> Hurts:
        """So many times as often."""
        return replace(self, **{kind.name: factor * getattr(self, kind.name) for kind in fields(self) if kind.name != "delay_s"})

    def drawn(self, draw: float) -> str:
        """The kind that a number in [0, 1) stands for; empty for none."""
        for kind in fields(self):
            if kind.name != "delay_s":
                draw -= getattr(self, kind.name)
                if draw < 0:
                    return kind.name
        return ""


@dataclass
class Proxy:
    """Its ``url`` stands for ``target``. ``requests_per_s``: what is more is throttled; None for no bound."""

    target: str
    seed: int = 0
    hurts: Hurts = field(default_factory=Hurts)
    requests_per_s: float | None = None
    closes: bool = False
    """Each connection is for one request."""
    held: str = ""
    """A pattern: what is to be written to such a path waits until this is another; it then goes on if its sender still lives."""
    url: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    """Hurts by kind, and ``passed`` for what was let through as it was."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._tokens, self._filled_at = 0.0, 0.0
        self._seen: dict[str, dict[str, Any]] = {}

    @property
    def n_hurt(self) -> int:
        return sum(count for kind, count in self.counts.items() if kind not in ("passed", "hung up", "held"))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request. Where either side hangs up by itself, the other's connection breaks."""
        try:
            return await self._handled(request)
        except (ClientConnectionError, ConnectionError):
            self.counts["hung up"] += 1
            return _break(request)

    async def _handled(self, request: web.Request) -> web.StreamResponse:
        if self._is_held(request):
            await self._until_let_go(request)
        kind = "skewed" if abs(refusals.skew_s(request)) > refusals.SKEW_ALLOWED_S else self._kind(request)
        self.counts[kind or "passed"] += 1
        if kind in ANSWERS:
            await request.read()
            return ANSWERS[kind](request)
        if kind == "reset":
            return _break(request)
        if kind == "black_hole":
            await asyncio.sleep(BLACK_HOLE_S)
            return _break(request)
        if kind == "delay":
            await asyncio.sleep(self.hurts.delay_s * self._random.random())
        answer = await self._forward(request)
        if kind == "lose":
            return refusals.internal_error(request)
        if kind == "cut_off":
            return _break(request)
        return await self._answered(request, answer, kind)

    def _is_held(self, request: web.Request) -> bool:
        return bool(self.held) and request.method in ("PUT", "POST") and re.search(self.held, request.path) is not None

    async def _until_let_go(self, request: web.Request) -> None:
        await request.read()
        self.counts["held"] += 1
        while self._is_held(request):  # noqa: ASYNC110 - the pattern is set by another thread
            await asyncio.sleep(0.02)
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError

    def _kind(self, request: web.Request) -> str:
        now = asyncio.get_running_loop().time()
        if self.requests_per_s is not None:
            self._tokens = min(self.requests_per_s, self._tokens + (now - self._filled_at) * self.requests_per_s)
            self._filled_at = now
            if self._tokens < 1:
                return "throttle"
            self._tokens -= 1
        kind = self.hurts.drawn(self._random.random())
        is_object = request.method == "GET" and "list-type" not in request.query
        is_tile = is_object and tile_of_key(request.path) is not None
        is_receive = request.headers.get("X-Amz-Target") == "AmazonSQS.ReceiveMessage"
        is_for = {"corrupt": is_tile, "truncate": is_object, "repeat": is_receive}
        return kind if is_for.get(kind, True) else ""

    async def _forward(self, request: web.Request) -> _Answer:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
        url, body = URL(self.target + request.raw_path, encoded=True), io.BytesIO(await request.read())
        async with self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
            return _Answer(answer.status, kept, await answer.read(), answer.headers.get("Content-Length", "0"))

    async def _answered(self, request: web.Request, answer: _Answer, kind: str) -> web.StreamResponse:
        body = answer.body
        if request.headers.get("X-Amz-Target") == "AmazonSQS.ReceiveMessage" and answer.status == 200:
            body = self._repeated(json.loads(await request.read()).get("QueueUrl", ""), body, is_wanted=kind == "repeat")
        if kind == "corrupt" and body and answer.status in (200, 206):
            body = _damaged(body, self._random.randrange(8 * len(body)))
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if self.closes:
            response.force_close()
        response.content_length = int(answer.length) if request.method == "HEAD" else len(body)
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(body[: len(body) // 2] if kind == "truncate" else body)
        if kind == "truncate":
            return _break(request)
        await response.write_eof()
        return response

    def _repeated(self, queue: str, body: bytes, *, is_wanted: bool) -> bytes:
        """An answer to ReceiveMessage, with a message of an earlier one when that is wanted and there was one."""
        found = json.loads(body or b"{}")
        messages = found.get("Messages", [])
        if is_wanted and queue in self._seen and len(messages) < 10:
            found["Messages"] = [*messages, self._seen[queue]]
        if messages:
            self._seen[queue] = self._random.choice(messages)
        return json.dumps(found).encode()

    async def serve(self, started: Future[asyncio.Event]) -> None:
        """Until the event that it tells ``started`` of is set."""
        app, ended = web.Application(client_max_size=LONGEST_BODY_BYTES), asyncio.Event()
        app.router.add_route("*", "/{path:.*}", self.handle)
        connector, timeout = TCPConnector(limit=0, force_close=True), ClientTimeout(total=BLACK_HOLE_S)
        async with ClientSession(auto_decompress=False, connector=connector, timeout=timeout) as self._session:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set_result(ended)
            await ended.wait()
            await runner.cleanup()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:  # those that wait for ever
                task.cancel()


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    length: str


@contextmanager
def between(target: str, hurts: Hurts | None = None, seed: int = 0) -> Iterator[Proxy]:
    """A proxy before ``target``, in a thread of its own."""
    proxy, started = Proxy(target.rstrip("/"), seed, hurts or Hurts()), Future[asyncio.Event]()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(proxy.serve(started)), name="hurting-proxy", daemon=True)
    thread.start()
    ended = started.result(timeout=10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(timeout=10)
        loop.close()


def only(kind: str, share: float, **more: Any) -> Hurts:
    """Hurts of one kind."""
    return replace(Hurts(**more), **{kind: share})


def _break(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _damaged(body: bytes, bit: int) -> bytes:
    damaged = bytearray(body)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)
