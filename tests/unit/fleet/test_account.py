"""``{account}`` in ``store.url``: asked once for an access key, never without need, and a mistake where it cannot be."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import Server
from tilefleet.account import identity, pinned, resolved
from tilefleet.config import Config, load, parse
from tilefleet.errors import BadConfig, NotAllowed, Unreachable
from tilefleet.session import Session, store_url

MOTO_ACCOUNT = "123456789012"


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "TILEFLEETTESTS")


def config_of(url: str, endpoint_url: str = "") -> Config:
    text = f'[fleet]\nkind = "remote"\n[store]\nurl = "{url}"\nregion = "eu-west-3"\n[ec2]\nendpoint_url = "{endpoint_url}"\n'
    config, mistakes = parse(text)
    assert mistakes == []
    return config


class CountingSts:
    """STS that refuses everybody and counts the calls; what it says is AWS's documented error shape."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> CountingSts:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.calls += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = (
                    b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
                    b"<Code>ExpiredToken</Code><Message>The security token included in the request is expired</Message>"
                    b"</Error><RequestId>1</RequestId></ErrorResponse>"
                )
                self.send_response(403)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server: socketserver.BaseServer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def refusing() -> Iterator[CountingSts]:
    with CountingSts() as server:
        yield server


def test_account_and_region_are_put_in(moto_server: Server) -> None:
    config = resolved(config_of("s3://tiles-{account}-{region}/lab", moto_server.endpoint_url))
    assert config.store.url == f"s3://tiles-{MOTO_ACCOUNT}-eu-west-3/lab"


def test_a_client_works_with_the_resolved_place(moto_server: Server) -> None:
    config = config_of("s3://tiles-{account}/lab", moto_server.endpoint_url)
    assert Session(config).store.url == f"s3://tiles-{MOTO_ACCOUNT}/lab"
    assert store_url(config) == f"s3://tiles-{MOTO_ACCOUNT}/lab"


def test_aws_is_asked_once_for_an_access_key(moto_server: Server, tmp_path: Path) -> None:
    config = config_of("s3://tiles-{account}/lab", moto_server.endpoint_url)
    resolved(config)
    (remembered,) = (tmp_path / "cache" / "accounts").iterdir()
    assert remembered.read_text() == MOTO_ACCOUNT + "\n"
    assert "TILEFLEETTESTS" not in remembered.name
    remembered.write_text("111122223333\n")  # what is remembered counts, so nobody was asked
    assert resolved(config).store.url == "s3://tiles-111122223333/lab"


def test_another_access_key_is_asked_about(
    moto_server: Server, refusing: CountingSts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved(config_of("s3://tiles-{account}/lab", moto_server.endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANOTHERKEY")
    with pytest.raises(
        NotAllowed, match=r"refused these AWS credentials \(ExpiredToken: The security token included in the request is"
    ):
        resolved(config_of("s3://tiles-{account}/lab", refusing.url))
    assert refusing.calls == 1
    assert len(list((tmp_path / "cache" / "accounts").iterdir())) == 1


def test_a_damaged_memory_is_asked_about_again(moto_server: Server, tmp_path: Path) -> None:
    config = config_of("s3://tiles-{account}/lab", moto_server.endpoint_url)
    resolved(config)
    (remembered,) = (tmp_path / "cache" / "accounts").iterdir()
    remembered.write_text("../../elsewhere")
    assert resolved(config).store.url == f"s3://tiles-{MOTO_ACCOUNT}/lab"
    assert remembered.read_text() == MOTO_ACCOUNT + "\n"


@pytest.mark.parametrize("url", ["s3://tiles/lab", "s3://tiles-{region}/lab", "file:///data/{x}"])
def test_without_an_account_in_it_nobody_is_asked(url: str, refusing: CountingSts) -> None:
    assert resolved(config_of(url, refusing.url)).store.url == url.replace("{region}", "eu-west-3")
    assert refusing.calls == 0


def test_regions_of_this_machines_environment_are_written_down_for_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    text = '[fleet]\nkind = "remote"\n[store]\nurl = "s3://b/p"\n'
    config = pinned(parse(text)[0])
    assert (config.store.region, config.queues.region, config.ec2.region) == ("eu-north-1",) * 3
    config = pinned(parse(text + 'region = "eu-west-3"\n[queues]\nregion = "us-west-2"\n')[0])
    monkeypatch.setenv("AWS_REGION", "ap-east-1")
    assert pinned(config) == config
    assert (config.store.region, config.queues.region, config.ec2.region) == ("eu-west-3", "us-west-2", "eu-west-3")


def test_the_embedded_deployment_asks_nobody() -> None:
    assert resolved(Config()) == Config()


def test_without_credentials_it_says_which_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NotAllowed, match=r"there are no AWS credentials for \{account\} in store.url"):
        resolved(config_of("s3://tiles-{account}/lab"))


def test_inside_an_event_loop_too(moto_server: Server) -> None:
    config = config_of("s3://tiles-{account}/lab", moto_server.endpoint_url)

    async def within() -> str:
        return resolved(config).store.url

    assert asyncio.run(within()) == f"s3://tiles-{MOTO_ACCOUNT}/lab"


async def test_who_one_is(moto_server: Server) -> None:
    found = await identity("us-east-1", moto_server.endpoint_url)
    assert found.account == MOTO_ACCOUNT
    assert found.arn.startswith(f"arn:aws:sts::{MOTO_ACCOUNT}:")


async def test_a_service_that_does_not_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"asked whose account this is, cannot be reached.*check the network"):
        await identity("us-east-1", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://tiles-{acount}/lab", "may have {account} and {region} in it, and no other braces"),
        ("s3://tiles-{account/lab", "no other braces"),
        ("file:///data/{account}", "only after s3://"),
    ],
)
def test_a_placeholder_that_is_none_is_a_mistake_with_its_line(url: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(f'[fleet]\nkind = "remote"\n\n[store]\nurl = "{url}"\n')
    with pytest.raises(BadConfig) as raised:
        load(file)
    assert str(raised.value).startswith(f"{file}:5: store.url: ")
    assert problem in str(raised.value)
