"""Between our code and the stand-in for AWS: counts calls, makes one of them fail, answers what the stand-in cannot.

It also gives RunInstances the idempotency by ClientToken that EC2 has and moto has not.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

_SERVICE = re.compile(r"Credential=[^/,\s]+/[^/]*/[^/]*/([^/]*)/")
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
        self._is_lost = False
        self._tokens: dict[str, Answer] = {}
        self._lock = threading.Lock()

    def arm(self, failing: int | None, kind: Literal["refused", "lost"] = "refused") -> None:
        """Count anew; the call with this number, from 0, fails: it is refused, or carried out and its answer is lost
        (then calls that only read are not counted)."""
        with self._lock:
            self.calls, self.failed, self._failing, self._is_lost = [], "", failing, kind == "lost"

    def handle(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        name = name_of(method, path, headers, body)
        with self._lock:
            if self._is_lost and is_read(name):
                is_failing = False
            else:
                is_failing = len(self.calls) == self._failing
                self.calls.append(name)
            self.failed = name if is_failing else self.failed
        if is_failing and not self._is_lost:
            return refusal(name)
        answer = self._answer(name, method, path, headers, body)
        return refusal(name) if is_failing else answer

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


@contextmanager
def proxy_to(upstream: str) -> Iterator[Proxy]:
    """A proxy that listens on a free loopback port."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_any(self) -> None:
            answer = proxy.handle(self.command, self.path, self.headers, self._body())
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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
