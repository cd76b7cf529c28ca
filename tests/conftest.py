"""Fixtures that several layers share: stand-ins for AWS as real processes on free loopback ports, stores, unique names.

The rule: nothing outlives the test run. Each server's parent is a shell that waits for the end of our pipe to it, so the
server ends with us, however we end.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NamedTuple

import hypothesis
import pytest

from tilefleet.config import StoreSection
from tilefleet.store import Store, Stores, file_url

ACCESS_KEY = "TILEFLEETTESTS"
SECRET_KEY = "of-no-value-outside-the-tests"  # noqa: S105
START_TIMEOUT_S = 30
_WITH_US = '"$@" </dev/null & pid=$!; read _; kill -9 $pid; wait $pid'

# No test may see the AWS account of the person who runs it; processes that tests start inherit this.
for _name in [name for name in os.environ if name.startswith(("AWS_", "TILEFLEET_"))]:
    del os.environ[_name]
os.environ.update(
    AWS_ACCESS_KEY_ID=ACCESS_KEY,
    AWS_SECRET_ACCESS_KEY=SECRET_KEY,
    AWS_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
)

# How long an example takes depends on what else this machine does. A test run tries the same examples each time, so that what it
# says is about the change; new ones are the soak's (--hypothesis-profile=soak).
_COMMON = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("tilefleet", _COMMON, derandomize=True)
hypothesis.settings.register_profile("soak", _COMMON, max_examples=5_000)
hypothesis.settings.load_profile("tilefleet")

# A shell starts background jobs (CI runners, nohup) with SIGINT ignored, and so would all processes of the tests of Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Server(NamedTuple):
    """A stand-in that runs; it takes (and some of them insist on) ACCESS_KEY and SECRET_KEY."""

    endpoint_url: str

    def new_bucket(self) -> str:
        """Make a bucket with a name of its own."""
        import boto3
        from botocore.config import Config

        name = unique("bucket")
        path_style = Config(s3={"addressing_style": "path"})
        client = boto3.Session().client("s3", endpoint_url=self.endpoint_url, region_name="us-east-1", config=path_style)
        client.create_bucket(Bucket=name)
        client.close()  # its sockets would warn in some later test
        return name


def unique(what: str) -> str:
    """A name that no other test has, also under pytest-xdist."""
    return f"{what}-{secrets.token_hex(5)}"


@pytest.fixture(scope="session", autouse=True)
def _no_log_has_the_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process that a test starts knows SECRET_KEY; no daemon's log may have it."""
    yield
    logs = [path for path in tmp_path_factory.getbasetemp().rglob("*.log*") if path.is_file()]
    telling = [str(path) for path in logs if SECRET_KEY.encode() in path.read_bytes()]
    assert not telling, f"the secret key stands in {telling}"


@pytest.fixture
def fleet() -> str:
    """A fleet name of this test's own."""
    return unique("fleet")


@pytest.fixture
def stores() -> Stores:
    """Stores with default settings."""
    return Stores(StoreSection())


@pytest.fixture
def directory_store(tmp_path: Path, stores: Stores) -> Store:
    """A store in a directory of this test's own."""
    (tmp_path / "store").mkdir()
    return stores.open(file_url(tmp_path / "store"))


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded deployment's stand-in (moto: SQS, S3, EC2, …), which refuses other access keys than ACCESS_KEY."""
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@contextmanager
def moto(directory: Path) -> Iterator[Server]:
    """The same, for those who are no test."""
    ready = directory / "ready"
    command = [sys.executable, "-m", "coordinator.runtime.standin", "--ready-file", str(ready)]
    with _running(command, directory) as process:
        _wait(process, directory, ready.exists)
        yield Server(ready.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """ministack: a second implementation of SQS (and S3); it accepts any credentials."""
    directory = tmp_path_factory.mktemp("ministack")
    port = _free_ports(1)
    environment = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "sqs,s3", "LOG_LEVEL": "ERROR"}
    with _running([_beside_python("ministack")], directory, environment) as process:
        _wait(process, directory, lambda: _answers(f"http://127.0.0.1:{port}/_ministack/health"))
        yield Server(f"http://127.0.0.1:{port}")


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS: an S3 that checks SigV4 signatures strictly. Skips when its binary does not run on this machine."""
    directory = tmp_path_factory.mktemp("seaweedfs")
    weed = _beside_python("weed")
    try:
        subprocess.run([weed, "version"], check=True, capture_output=True, timeout=START_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the seaweedfs binary does not run here: {error}")
    port = _free_ports(5)
    # unix socket paths must be short, and pytest's directories are not
    with (
        TemporaryDirectory(prefix="weed-") as sockets,
        _running(_weed_command(weed, directory, port, sockets), directory) as process,
    ):
        _wait(process, directory, lambda: _answers(f"http://127.0.0.1:{port}/healthz"))
        yield Server(f"http://127.0.0.1:{port}")


def _weed_command(weed: str, directory: Path, port: int, sockets: str) -> list[str]:
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin"]}
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    return [
        weed, "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-s3.port={port}", f"-master.port={port + 1}", f"-volume.port={port + 2}", f"-filer.port={port + 3}",
        f"-admin.port={port + 4}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false",
        f"-s3.config={config}", "-s3.autoCreateBucket=false", "-master.telemetry=false", "-master.volumeSizeLimitMB=64",
        f"-filer.localSocket={sockets}/filer", f"-s3.localSocket={sockets}/s3",
    ]  # fmt: skip


@contextmanager
def _running(command: list[str], directory: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _WITH_US, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=directory,
            env=os.environ | (environment or {}),
            start_new_session=True,  # Ctrl-C ends the tests first, then the servers
        )
    try:
        yield process
    finally:
        stdin: IO[bytes] | None = process.stdin
        assert stdin is not None
        stdin.close()
        process.wait(timeout=START_TIMEOUT_S)


def _wait(process: subprocess.Popen[bytes], directory: Path, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the server did not start: {(directory / 'log').read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 — our own loopback address
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False
    return True


def _free_ports(count: int) -> int:
    """The first of ``count`` free neighbouring ports; those 10,000 above are free too, where SeaweedFS puts its gRPC."""
    for _ in range(100):
        first = random.randrange(20_000, 22_700, count)  # below Linux's ephemeral ports, 32768 and up
        if all(_is_free(port) for base in (first, first + 10_000) for port in range(base, base + count)):
            return first
    raise AssertionError("there are no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _beside_python(program: str) -> str:
    """A program of the environment that runs the tests."""
    return shutil.which(program, path=str(Path(sys.executable).parent)) or program
