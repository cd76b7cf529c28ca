"""Between our code and the stand-in for AWS: counts calls, makes one of them fail, answers what the stand-in cannot.

It also gives RunInstances the idempotency by ClientToken that EC2 has and moto has not.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

_SERVICE = re.compile(r"Credential=[^/,\s]+/[^/]*/[^/]*/([^/]*)/")
Kind = Literal["refused", "lost", "cut"]
"""How a call fails: it is refused; it is carried out and then said to be refused; it is carried out, and the answer is one
after which the SDK asks again. Of the last two only calls that change something are."""

QUIET_S = 0.1
_OF_CONNECTION = {"connection", "transfer-encoding", "content-length", "expect", "date", "server"}


class Answer(NamedTuple):
    """What a service says."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Proxy:
    """Calls are named ``ec2:RunInstances``, ``s3:PUT tagging``, ``sqs:CreateQueue``."""

    def __init__(self, upstream: str) -> None:
        self.endpoint_url = ""
        self.calls: list[str] = []
        self.failed = ""
        """The call that failed."""
        self.answers: dict[str, Callable[[str], Answer | None]] = {}
        """By the name of a call: takes its body; None: ask the stand-in after all."""
        self._upstream = urlsplit(upstream).netloc
        self._failing: int | None = None
        self._is_each = False
        self._kind: Kind = "refused"
        self._n_handled = self._n_busy = 0
        self.spent: dict[str, str] = {}
        """What failed since the beginning, by ``arm_each``, and the name of its call."""
        self._tokens: dict[str, Answer] = {}
        self._lock = threading.Lock()

    def arm(self, failing: int | None, kind: Kind = "refused") -> None:
        """Count anew; the call with this number, from 0, fails (unless it is a refusal, calls that only read do not count)."""
        with self._lock:
            self.calls, self.failed, self._failing, self._kind, self._is_each = [], "", failing, kind, False

    def arm_each(self, kind: Kind) -> None:
        """Count anew; the first call of a kind that has not failed since the beginning fails: of a name for refusals, of a
        request for the others. ``cut``: each such call, not only the first, as the caller goes on."""
        with self._lock:
            self.calls, self.failed, self._failing, self._kind, self._is_each = [], "", None, kind, True

    def handle(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        name = name_of(method, path, headers, body)
        with self._lock:
            kind = self._kind
            is_failing = self._counts(name, path, body)
            self.failed = name if is_failing else self.failed
            self._n_handled, self._n_busy = self._n_handled + 1, self._n_busy + 1
        try:
            if not is_failing:
                return self._answer(name, method, path, headers, body)
            if kind != "refused":
                self._answer(name, method, path, headers, body)
            return unavailable(name) if kind == "cut" else refusal(name)
        finally:
            with self._lock:
                self._n_busy -= 1

    async def quiet(self) -> None:
        """Wait until nothing comes any more: what was cancelled beside a call that failed may still be on its way here."""
        before = -1
        while self._n_busy or before != self._n_handled:
            before = self._n_handled
            await asyncio.sleep(QUIET_S)

    def _counts(self, name: str, path: str, body: bytes) -> bool:
        """Whether this call is to fail."""
        if self._kind != "refused" and is_read(name):
            return False
        self.calls.append(name)
        if not self._is_each:
            return len(self.calls) - 1 == self._failing
        request = f"{name} {path}" if name.startswith("s3:") else f"{name} {body!r}"  # a record's contents differ each time
        spent = name if self._kind == "refused" else request
        if spent in self.spent or (self.failed and self._kind != "cut"):
            return False
        self.spent[spent] = name
        return True

    def _answer(self, name: str, method: str, path: str, headers: Any, body: bytes) -> Answer:
        recorded = self.answers[name](body.decode()) if name in self.answers else None
        if recorded is not None:
            return recorded
        token = parse_qs(body.decode("latin-1")).get("ClientToken", [""])[0] if name == "ec2:RunInstances" else ""
        if token and token in self._tokens:
            return self._tokens[token]
        answer = self._forwarded(method, path, headers, body)
        if token and answer.status == 200:
            self._tokens[token] = answer
        return answer

    def _forwarded(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for key, value in headers.items():
                if key.lower() not in _OF_CONNECTION:
                    connection.putheader(key, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            kept = tuple((key, value) for key, value in answer.getheaders() if key.lower() not in _OF_CONNECTION)
            length = answer.getheader("Content-Length") or "0"
            return Answer(answer.status, answer.read(), (*kept, ("Content-Length", length)) if method == "HEAD" else kept)
        finally:
            connection.close()


def name_of(method: str, path: str, headers: Any, body: bytes) -> str:
    """Service and operation of a request."""
    signed = _SERVICE.search(headers.get("Authorization", ""))
    service = signed[1] if signed else "?"
    if service == "s3":
        query = urlsplit(path).query.partition("=")[0].partition("&")[0]
        return f"s3:{method} {query}".rstrip()
    if target := headers.get("X-Amz-Target"):
        return f"{service}:{target.rpartition('.')[2]}"
    return f"{service}:{parse_qs(body.decode('latin-1')).get('Action', ['?'])[0]}"


def is_read(name: str) -> bool:
    """Whether a call changes nothing."""
    operation = name.partition(":")[2]
    return operation.startswith(("Describe", "Get", "List", "GET", "HEAD"))


def refusal(name: str) -> Answer:
    """As the service says that a permission is lacking: an error that no client tries again."""
    text = "not allowed by this test"
    service = name.partition(":")[0]
    if service == "ec2":
        return xml(403, f"<Response><Errors>{_error('UnauthorizedOperation', text)}</Errors></Response>")
    if service in {"iam", "sts"}:
        return xml(403, f"<ErrorResponse>{_error('AccessDenied', text)}</ErrorResponse>")
    if service == "s3":
        return xml(403, _error("AccessDenied", text))
    return Answer(400, f'{{"__type": "AccessDeniedException", "message": "{text}"}}'.encode(), _JSON)


def unavailable(name: str) -> Answer:
    """As a service that is away for a moment: every client tries again."""
    if name.startswith(("sqs", "ssm")):
        return Answer(503, b'{"__type": "ServiceUnavailable", "message": "said by this test"}', _JSON)
    return xml(503, f"<Response><Errors>{_error('ServiceUnavailable', 'said by this test')}</Errors></Response>")


def ec2_refusal(code: str, status: int = 400) -> Answer:
    """EC2's answer with an error code."""
    return xml(status, f"<Response><Errors>{_error(code, 'said by this test')}</Errors></Response>")


def xml(status: int, text: str) -> Answer:
    return Answer(status, text.encode(), (("Content-Type", "text/xml"),))


def json_answer(text: str) -> Answer:
    return Answer(200, text.encode(), _JSON)


def _error(code: str, message: str) -> str:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"


_JSON = (("Content-Type", "application/x-amz-json-1.1"),)


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError):  # whoever asked was cancelled
            super().handle()

    def do_any(self) -> None:
        answer = self.proxy.handle(self.command, self.path, self.headers, self._body())
        with suppress(ConnectionError):  # whoever asked was cancelled
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers:
            self.send_header(key, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """No line for each request."""


@contextmanager
def proxy_to(upstream: str) -> Iterator[Proxy]:
    """A proxy that listens on a free loopback port."""
    proxy = Proxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    proxy.endpoint_url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
