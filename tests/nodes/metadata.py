"""The instance metadata service: ``python -m tests.nodes.metadata DIRECTORY``, in the namespace of the nodes' switch.

The rule: IMDSv2 only, as our launch template demands: without a token nothing is told. What an instance is told lies in files
below ``DIRECTORY/<its address>``; a test that gives a notice writes a file.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS = "169.254.169.254"
PORT = 80
TOKEN = "token-of-the-stand-in"  # noqa: S105
_HEADER = "X-aws-ec2-metadata-token"


class Handler(BaseHTTPRequestHandler):
    """Answers with files of the caller's own."""

    root: Path

    def do_PUT(self) -> None:
        """A token."""
        if self.path == "/latest/api/token" and f"{_HEADER}-ttl-seconds" in self.headers:
            self._answer(HTTPStatus.OK, TOKEN.encode())
        else:
            self._answer(HTTPStatus.BAD_REQUEST)

    def do_GET(self) -> None:
        """An item; of a directory, the names in it."""
        own = self.root / self.client_address[0]
        item = (own / self.path.strip("/")).resolve()
        if self.headers.get(_HEADER) != TOKEN:
            self._answer(HTTPStatus.UNAUTHORIZED)
        elif not item.is_relative_to(own.resolve()) or not item.exists():
            self._answer(HTTPStatus.NOT_FOUND)
        elif item.is_dir():
            self._answer(HTTPStatus.OK, "\n".join(sorted(path.name for path in item.iterdir())).encode())
        else:
            self._answer(HTTPStatus.OK, item.read_bytes())

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line per request."""


def main() -> None:
    Handler.root = Path(sys.argv[1])
    with ThreadingHTTPServer((ADDRESS, PORT), Handler) as server:
        (Handler.root / "ready").touch()
        server.serve_forever()


if __name__ == "__main__":
    main()
