"""Systems Manager as AWS documents it, over HTTP: recorded shapes of answers, around a shell that really runs the commands.

No stand-in can do this: moto's send_command always succeeds with empty output, and its describe_instance_information fails.
Shapes: the service model of botocore (ssm-2014-11-06) and the AWS API reference of GetCommandInvocation; output is cut at
24,000 characters, as there.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OUTPUT_CHARACTERS, ERROR_CHARACTERS = 24_000, 8_000


class SystemsManager:
    """What the service knows, and what a test tells it to do."""

    def __init__(self) -> None:
        self.endpoint_url = ""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Operations and their parameters, as they came."""
        self.ping = ["Online"]
        """PingStatus of the instance in each next answer; the last one stays; "" is an instance that is not known."""
        self.throttled = 0
        """So many GetCommandInvocation are refused."""
        self.outcome: dict[str, Any] | None = None
        """Instead of running commands."""
        self._commands: dict[str, subprocess.Popen[str]] = {}

    def times_asked(self, operation: str) -> int:
        return sum(name == operation for name, _ in self.asked)

    def wait_until_asked(self, operation: str) -> None:
        while not self.times_asked(operation):
            time.sleep(0.01)

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append((operation, asked))
        return {
            "DescribeInstanceInformation": self._describe,
            "SendCommand": self._send,
            "GetCommandInvocation": self._get,
            "CancelCommand": self._cancel,
        }[operation](asked)

    def _describe(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        [instance] = asked["Filters"][0]["Values"]
        status = self.ping.pop(0) if len(self.ping) > 1 else self.ping[0]
        known = {"InstanceId": instance, "PingStatus": status, "AgentVersion": "3.3.987.0", "PlatformType": "Linux"}
        return 200, {"InstanceInformationList": [known] if status else []}

    def _send(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        command = str(uuid.uuid4())
        script = "\n".join(asked["Parameters"]["commands"])
        self._commands[command] = subprocess.Popen(
            ["/bin/sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return 200, {"Command": {"CommandId": command, "Status": "Pending", "InstanceIds": asked["InstanceIds"]}}

    def _get(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.throttled:
            self.throttled -= 1
            return 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}
        if asked["CommandId"] not in self._commands:
            return 400, {"__type": "InvocationDoesNotExist", "message": ""}
        process = self._commands[asked["CommandId"]]
        found = {"CommandId": asked["CommandId"], "InstanceId": asked["InstanceId"], "DocumentName": "AWS-RunShellScript"}
        if self.outcome is not None:
            return 200, found | self.outcome
        if process.poll() is None and process.stdout and not _is_over(process):
            return 200, found | {"Status": "InProgress", "StatusDetails": "InProgress", "ResponseCode": -1}
        output, errors = process.communicate()
        status = "Success" if process.returncode == 0 else "Failed"
        return 200, found | {
            "Status": status,
            "StatusDetails": status,
            "ResponseCode": process.returncode,
            "StandardOutputContent": output[:OUTPUT_CHARACTERS],
            "StandardErrorContent": errors[:ERROR_CHARACTERS],
        }

    def _cancel(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self._commands[asked["CommandId"]].kill()
        self._commands[asked["CommandId"]].wait()
        return 200, {}

    def close(self) -> None:
        for process in self._commands.values():
            process.kill()
            process.communicate()


def _is_over(process: subprocess.Popen[str]) -> bool:
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def running_systems_manager() -> Iterator[SystemsManager]:
    """The service on a loopback port."""
    service = SystemsManager()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = service.answer(self.headers["X-Amz-Target"].removeprefix("AmazonSSM."), asked)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.endpoint_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        service.close()
