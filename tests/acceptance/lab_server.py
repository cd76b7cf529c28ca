"""An AWS whose credentials expire: the stand-in behind a gate that lets one access key pass, the one that a file holds.

What it says to others is what S3 and SQS say of a session that is over. ``python -m tests.acceptance.lab_server READY KEY``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coordinator.runtime import standin
from tests.conftest import ACCESS_KEY

_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]*/[^/]*/([^/]*)/")
S3_ANSWER = (
    "400 Bad Request", "application/xml",
    b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
)  # fmt: skip
SQS_ANSWER = (
    "403 Forbidden", "application/x-amz-json-1.0",
    b'{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"The security token in the request is expired"}',
)  # fmt: skip


class Lab:
    """WSGI middleware before the stand-in's own gate."""

    def __init__(self, application: Any, key: Path) -> None:
        self._application = application
        self._key = key

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        signed = _CREDENTIAL.search(authorization)
        if signed is None or signed[1] != self._key.read_text(encoding="utf-8"):
            status, kind, body = S3_ANSWER if signed is None or signed[2] == "s3" else SQS_ANSWER
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        environ["HTTP_AUTHORIZATION"] = authorization.replace(f"Credential={signed[1]}/", f"Credential={ACCESS_KEY}/")
        application: Iterable[bytes] = self._application(environ, start_response)
        return application


if __name__ == "__main__":
    server = standin.serve(0, ACCESS_KEY)
    server.app = Lab(server.app, Path(sys.argv[2]))
    partial = Path(sys.argv[1] + ".partial")
    partial.write_text(f"http://{standin.HOST}:{server.server_port}", encoding="utf-8")
    partial.replace(sys.argv[1])
    server.serve_forever()
