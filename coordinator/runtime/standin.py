"""The embedded deployment's queues: moto's server, speaking the SQS protocol on a loopback port.

The rules: it listens on 127.0.0.1 only and serves only requests signed with this deployment's access key, so other users
of the machine cannot read or send jobs; it ends at once with its supervisor. moto handles each connection in a thread of
its own without locking: here the SQS calls go one at a time, or a message sent during a delete is lost, and so do puts that
create an object only where there is none, or two succeed
(docs/adr/0003-embedded-stand-in.md).
"""

from __future__ import annotations

import argparse
import functools
import hmac
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog

from tilefleet import logs, parent, sd_notify

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 8 * 1024 * 1024  # a batch of 1 MiB, as JSON that escapes each character to six
LOOK_S = 0.25  # how often a waiting poll looks for leases that ended
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/[^/]*/[^/]*/([^/]*)/")


class Gate:
    """WSGI middleware: lets requests with one access key pass; of those to SQS, and of those that create, one at a time."""

    def __init__(self, application: Application, access_key: str, turn: threading.Condition) -> None:
        self._application = application
        self._access_key = access_key.encode()
        self._turn = turn

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        if signed is None or not hmac.compare_digest(signed[1].encode(), self._access_key):
            return _refuse(
                start_response, HTTPStatus.FORBIDDEN, "InvalidClientTokenId", "this is not the deployment's access key"
            )
        if environ.get("PATH_INFO", "").startswith("/moto-api"):
            return _refuse(start_response, HTTPStatus.FORBIDDEN, "AccessDenied", "the stand-in has no admin pages")
        if signed[2] == "sqs":
            return self._of_queues(environ, start_response)
        if "HTTP_IF_NONE_MATCH" in environ:
            return self._in_turn(environ, start_response, _body(environ))
        return self._application(environ, start_response)

    def _of_queues(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        n_bytes = int(environ.get("CONTENT_LENGTH") or 0)
        if n_bytes > MAX_REQUEST_BYTES:
            return _refuse(start_response, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "InvalidRequest", "the request is too large")
        answer = self._in_turn(environ, start_response, environ["wsgi.input"].read(n_bytes))
        with self._turn:
            self._turn.notify_all()  # a message may have come, or come back
        return answer

    def _in_turn(self, environ: Environ, start_response: Any, body: bytes) -> Iterable[bytes]:
        """``body`` was received before the turn: a sender that is slow, or gone, holds up nobody."""
        with self._turn:
            return self._application(environ | {"wsgi.input": io.BytesIO(body)}, start_response)


def _body(environ: Environ) -> bytes:
    """Of an object, by its length or in chunks."""
    read = environ["wsgi.input"].read
    return bytes(read() if environ.get("wsgi.input_terminated") else read(int(environ.get("CONTENT_LENGTH") or 0)))


def _refuse(start_response: Any, status: HTTPStatus, code: str, text: str) -> Iterable[bytes]:
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "application/x-amz-json-1.0")])
    return [f'{{"__type": "com.amazonaws.sqs#{code}", "message": "{text}"}}'.encode()]


def mend_sqs(turn: threading.Condition) -> None:
    """Make moto's queues wait without holding up others, and know only the newest handle of a message, as SQS does."""
    from moto.sqs import models

    queues: Any = models.Queue
    messages: Any = models.Message

    def wait_for_messages(queue: Any, timeout: float) -> None:
        if not queue.messages:
            turn.wait(min(timeout, LOOK_S))

    def delete_message(queue: Any, handle: str) -> None:
        for message in [message for message in queue._messages if message.receipt_handle == handle]:
            queue._messages.remove(message)
            queue.pending_messages.discard(message)

    queues.wait_for_messages = wait_for_messages
    queues.delete_message = delete_message  # moto's own keeps the handle of every message that ever was
    messages.had_receipt_handle = lambda message, handle: message.receipt_handle == handle


def quicken_moto() -> None:
    """Have moto remember what it asks again for every request, such as which of its 170 directories are services.

    That was more than a third of a request. Nothing changes but time, so a moto without one of these is served as it is.
    """
    from moto import backends
    from moto.core import responses
    from moto.sqs import models

    services: Any = backends.list_of_moto_modules
    if not hasattr(services, "cache_info"):
        backends.list_of_moto_modules = functools.cache(lambda: frozenset(services()))
    for module in (responses, models):
        for name in ("camelcase_to_underscores", "method_names_from_class"):
            asked: Any = getattr(module, name, None)
            if asked is not None and not hasattr(asked, "cache_info"):
                setattr(module, name, functools.lru_cache(1024)(asked))


def serve(port: int, access_key: str) -> Any:
    """A server bound to a loopback port (0: a free one), ready for ``serve_forever``."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        disable_nagle_algorithm = True  # headers and body are written apart: 40 ms with delayed acknowledgements

        def log(self, *_: Any) -> None:
            """No line per request."""

    turn = threading.Condition()
    mend_sqs(turn)
    quicken_moto()
    application = Gate(DomainDispatcherApplication(create_backend_app), access_key, turn)
    return make_server(HOST, port, application, threaded=True, request_handler=Handler)


def main() -> None:
    """``python -m coordinator.runtime.standin``: serve until SIGTERM (status 0) or the supervisor's end (status 70)."""
    parent.watch_parent()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # nothing to save: the store is the only durable truth
    arguments = _parser().parse_args()
    access_key = os.environ.get("AWS_ACCESS_KEY_ID", "")
    if not access_key:
        sys.exit("the stand-in needs the deployment's access key in AWS_ACCESS_KEY_ID")
    logs.setup("info", component="standin")
    server = serve(arguments.port, access_key)
    endpoint = f"http://{HOST}:{server.server_port}"
    if arguments.ready_file:
        partial = arguments.ready_file.with_suffix(".partial")
        partial.write_text(endpoint, encoding="utf-8")
        partial.replace(arguments.ready_file)
    sd_notify.notify(f"{sd_notify.READY}\nSTATUS=endpoint {endpoint}")
    structlog.get_logger().info("standin_ready", endpoint=endpoint)
    server.serve_forever()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="standin", description="SQS on a loopback port, for an embedded deployment")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--ready-file", type=Path, help="gets the endpoint's URL when the server listens")
    return parser


if __name__ == "__main__":
    main()
