"""AWS over the wire, from stand-ins in processes of their own, on this machine: moto for S3, ministack for SQS.

The rule: whoever measures through one sets the same variables for every peer. Which stand-in serves what was measured: of 32 MiB
objects moto takes 90 MB/s and gives 480, SeaweedFS 65 and 330, ministack 7 in; moto's queues slow down with their backlog.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks import places
from benchmarks.surroundings import environment

START_DEADLINE_S = 30.0
BUCKET = "bench"


def s3() -> AbstractContextManager[dict[str, str]]:
    """The variables that lead to an S3, which also stand in this process's environment meanwhile; its bucket is ``BUCKET``."""
    return _running("S3", ("moto_server", "-H", "127.0.0.1", "-p", "{port}"), "/moto-api/")


def sqs() -> AbstractContextManager[dict[str, str]]:
    """The same for SQS."""
    return _running("SQS", ("ministack",), "/_ministack/health")


@contextmanager
def _running(service: str, words: tuple[str, ...], health: str) -> Iterator[dict[str, str]]:
    port = _free_port()
    endpoint = f"http://127.0.0.1:{port}"
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "sqs", "LOG_LEVEL": "ERROR"}
    variables = {f"AWS_ENDPOINT_URL_{service}": endpoint, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret",
                 "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    command = [str(Path(sys.executable).with_name(words[0])), *(word.format(port=port) for word in words[1:])]
    with (places.LOGS / f"{words[0]}.log").open("a") as log:
        process = subprocess.Popen(command, cwd=places.WORK, env=environment(**settings), stdout=log, stderr=log)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        _wait(process, f"{endpoint}{health}")
        if service == "S3":
            _make_bucket(endpoint)
        yield variables
    finally:
        process.terminate()
        process.wait()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _make_bucket(endpoint: str) -> None:
    import boto3

    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - a fixed http URL
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a stand-in for AWS does not come up; its log is in {places.LOGS}") from None
            time.sleep(0.05)
