"""A node publishes its host keys with a signature that a strict S3 accepts, and the provider reads them; else its console's."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from coordinator.fleet.ec2 import publish_host_keys
from coordinator.fleet.records import Machine
from tests.conftest import ACCESS_KEY, SECRET_KEY, Server
from tests.integration.fleet import ec2_account as aws
from tests.integration.fleet.aws_proxy import ec2_refusal, proxy_to, xml
from tests.unit.fleet.test_ec2_console import BOOT, EC, ED
from tilefleet import layout
from tilefleet.config import StoreSection
from tilefleet.store import Stores

PROGRAM = Path(publish_host_keys.__file__).read_bytes()
TOKEN = "of-this-test"  # noqa: S105
ID = "i-0123456789abcdef0"


@contextmanager
def _metadata_service(session_token: str) -> Iterator[str]:
    """IMDSv2 of an instance with a role: nothing without its token."""
    role = f'{{"AccessKeyId": "{ACCESS_KEY}", "SecretAccessKey": "{SECRET_KEY}", "Token": "{session_token}"}}'
    items = {
        "/latest/meta-data/instance-id": ID,
        "/latest/meta-data/iam/security-credentials/": "role-of-the-node",
        "/latest/meta-data/iam/security-credentials/role-of-the-node": role,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            is_right = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
            self._say(200 if is_right else 403, TOKEN)

        def do_GET(self) -> None:
            is_known = self.headers.get("X-aws-ec2-metadata-token") == TOKEN
            self._say(200 if is_known and self.path in items else 401, items.get(self.path, ""))

        def _say(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """No line for each request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def _publish(place: str, metadata_url: str, tmp_path: Path, for_s: str = "0") -> tuple[int | None, str]:
    """As on a node: a program by itself, without our packages or the environment's AWS settings."""
    (tmp_path / "ssh_host_ed25519_key.pub").write_text(f"{ED} root@node\n", encoding="ascii")
    (tmp_path / "ssh_host_ecdsa_key.pub").write_text(f"{EC} root@node\n", encoding="ascii")
    arguments = [place, "us-east-1", metadata_url, for_s, str(tmp_path / "ssh_host_*_key.pub")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-", *arguments, stdin=-1, stdout=-1, stderr=-1, cwd=tmp_path, env={"PATH": os.environ["PATH"]}
    )
    _, said = await process.communicate(PROGRAM)
    return process.returncode, said.decode()


async def test_what_a_node_publishes_is_what_the_provider_reads(moto_server: Server, tmp_path: Path) -> None:
    settings = aws.config(moto_server.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        machine = Machine(ID, "n1", "running", launched_at=0.0)
        bucket, prefix = settings.store.url.removeprefix("s3://").split("/")
        with _metadata_service("session") as metadata_url:
            place = f"{moto_server.endpoint_url}/{bucket}/{prefix}/fleet/hostkeys"
            assert await _publish(place, metadata_url, tmp_path) == (0, "")
        assert await provider.host_keys(machine) == (EC, ED)
        await aws.down(provider)


async def test_a_strict_s3_accepts_the_signature_and_a_second_try_is_no_error(seaweedfs_server: Server, tmp_path: Path) -> None:
    bucket = seaweedfs_server.new_bucket()
    place = f"{seaweedfs_server.endpoint_url}/{bucket}/with space & sign/fleet/hostkeys"
    with _metadata_service("") as metadata_url:
        for _ in range(2):
            assert await _publish(place, metadata_url, tmp_path) == (0, "")
    store = Stores(StoreSection(endpoint_url=seaweedfs_server.endpoint_url)).open(f"s3://{bucket}/with space & sign")
    assert bytes(await store.get(layout.host_keys(ID))).decode() == f"{EC}\n{ED}\n"


async def test_it_gives_up_in_time_without_saying_anything_secret(tmp_path: Path) -> None:
    with _metadata_service("session") as metadata_url:
        status, said = await _publish("http://127.0.0.1:9/bucket/fleet/hostkeys", metadata_url, tmp_path)
    assert status == 1
    assert said.startswith("tilefleet: the host keys are not published yet: URLError(")
    assert SECRET_KEY not in said


async def test_the_console_is_read_where_the_store_has_nothing(moto_server: Server, tmp_path: Path) -> None:
    text = base64.b64encode(BOOT.encode()).decode()
    console = f"<GetConsoleOutputResponse><instanceId>{ID}</instanceId><output>{text}</output></GetConsoleOutputResponse>"
    machine = Machine(ID, "n1", "running", launched_at=1.0)
    with proxy_to(moto_server.endpoint_url) as proxy:
        asked: list[str] = []

        def old_kind_of_instance(body: str) -> object:
            asked.append(body)
            return ec2_refusal("UnsupportedOperation") if "Latest=true" in body else xml(200, console)

        proxy.answers["ec2:GetConsoleOutput"] = old_kind_of_instance  # type: ignore[assignment]
        settings = aws.config(proxy.endpoint_url)
        async with aws.provider_of(settings, tmp_path) as provider:
            await provider.prepare(lambda _: None)
            assert await provider.host_keys(machine) == (EC, ED)
            assert len(asked) == 2
            starting = msgspec.structs.replace(machine, state="starting")
            assert await provider.host_keys(starting) == ()
            await aws.down(provider)


@pytest.mark.thorough
@pytest.mark.parametrize("published", ["", "rubbish\n", "ssh-ed25519 AAAA'; reboot\n"])
async def test_what_is_no_key_is_none(moto_server: Server, tmp_path: Path, published: str) -> None:
    settings = aws.config(moto_server.endpoint_url)
    async with aws.provider_of(settings, tmp_path) as provider:
        await provider.prepare(lambda _: None)
        store = Stores(settings.store).open(settings.store.url)
        await store.put(layout.host_keys(ID), published.encode())
        assert await provider.host_keys(Machine(ID, "n1", "starting")) == ()
        await aws.down(provider)
