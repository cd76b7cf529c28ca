"""Nodes over Systems Manager: scripts, files and their ends, against recorded answers and a store that runs.

Recorded: what AWS documents and moto cannot do (``systems_manager``). The scripts run in a real shell, and fetch what they
read by presigned URLs from an S3 that checks signatures.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from coordinator.fleet.connections.ssm import SsmConnection, SsmTransport
from coordinator.fleet.records import Machine, NodeRecord
from tests.conftest import Server
from tests.integration.fleet.processes import gone, until, written
from tests.integration.fleet.systems_manager import OUTPUT_CHARACTERS, SystemsManager, running_systems_manager
from tilefleet.config import Config, StoreSection
from tilefleet.errors import BadConfig, DoesNotFit, NotAllowed, NotFound, Unreachable
from tilefleet.fleet_config import Ec2Section, NodesSection
from tilefleet.store import Store, Stores

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="what runs on a node runs as root"), pytest.mark.thorough]

MACHINE = Machine("i-0123456789abcdef0", "n1", "running")
RECORD = NodeRecord("n1", MACHINE.id)


@pytest.fixture
def service() -> Iterator[SystemsManager]:
    with running_systems_manager() as service:
        yield service


@pytest.fixture
def config(service: SystemsManager, seaweedfs_server: Server) -> Config:
    store = StoreSection(url=f"s3://{seaweedfs_server.new_bucket()}/fleet", endpoint_url=seaweedfs_server.endpoint_url)
    nodes = NodesSection(provider="ec2", transport="ssm")
    return Config(nodes=nodes, store=store, ec2=Ec2Section(endpoint_url=service.endpoint_url))


@pytest.fixture
def store(config: Config) -> Store:
    return Stores(config.store).open(config.store.url)


@pytest_asyncio.fixture
async def connection(config: Config, store: Store) -> AsyncIterator[SsmConnection]:
    connection = await SsmTransport(config, store).connect(MACHINE, RECORD, deadline_s=20)
    yield connection
    await connection.close()


class TestConnecting:
    async def test_a_node_is_waited_for_until_it_is_online(self, service: SystemsManager, config: Config, store: Store) -> None:
        service.ping = ["", "ConnectionLost", "Online"]
        connection = await SsmTransport(config, store).connect(MACHINE, RECORD, deadline_s=60)
        await connection.close()
        assert service.times_asked("DescribeInstanceInformation") == 3

    async def test_one_that_never_registers_is_said_with_what_it_needs(
        self, service: SystemsManager, config: Config, store: Store
    ) -> None:
        service.ping = [""]
        with pytest.raises(Unreachable, match=r"n1 \(i-0123456789abcdef0\) has not registered .* AmazonSSMManagedInstanceCore"):
            await SsmTransport(config, store).connect(MACHINE, RECORD, deadline_s=0.5)
        service.ping = ["ConnectionLost"]
        with pytest.raises(Unreachable, match="was last seen as 'ConnectionLost'"):
            await SsmTransport(config, store).connect(MACHINE, RECORD, deadline_s=0.5)

    def test_it_needs_a_store_that_nodes_can_fetch_from(self, config: Config, directory_store: Store) -> None:
        with pytest.raises(BadConfig, match="needs a store in S3"):
            SsmTransport(config, directory_store)


class TestRunning:
    async def test_output_and_status_come_back(self, connection: SsmConnection) -> None:
        lines: list[str] = []
        script = """echo "it's one"; echo two >&2; echo '{{ not: ssm }}'; umask; pwd; exit 3"""
        done = await connection.run(script, deadline_s=30, on_line=lines.append)
        assert done == (3, "it's one\ntwo\n{{ not: ssm }}\n0022\n/\n")
        assert lines == done.output.splitlines()

    async def test_the_service_is_not_shown_what_it_would_take_for_its_own(
        self, connection: SsmConnection, service: SystemsManager
    ) -> None:
        await connection.run("echo '{{ssm:secret}}'", deadline_s=30)
        [sent] = [asked for name, asked in service.asked if name == "SendCommand"]
        assert "{{" not in sent["Parameters"]["commands"][0]
        assert (sent["DocumentName"], sent["InstanceIds"]) == ("AWS-RunShellScript", [MACHINE.id])

    async def test_input_goes_through_the_store_and_does_not_stay_there(
        self, connection: SsmConnection, service: SystemsManager, store: Store
    ) -> None:
        done = await connection.run("cat", deadline_s=30, stdin=b"AWS_SECRET_ACCESS_KEY=x\0y")
        assert done.output == "AWS_SECRET_ACCESS_KEY=x\0y"
        assert "AWS_SECRET" not in str(service.asked)
        assert [entry async for entry in store.entries()] == []

    async def test_a_script_without_input_reads_nothing(self, connection: SsmConnection) -> None:
        assert (await connection.run("cat; echo end", deadline_s=30)).output == "end\n"

    @pytest.mark.parametrize("generator", ["seq 1 100000", "head -c 100000 /dev/urandom | base64"])
    async def test_the_end_of_long_output_is_seen_although_the_service_shows_its_beginning(
        self, connection: SsmConnection, generator: str, tmp_path: Path
    ) -> None:
        done = await connection.run(f"({generator}) >{tmp_path}/all; cat {tmp_path}/all; echo last", deadline_s=30)
        assert 16_000 < len(done.output) <= 64 * 1024
        assert f"{(tmp_path / 'all').read_text(encoding='utf-8')}last\n".endswith(done.output)
        assert OUTPUT_CHARACTERS == 24_000

    async def test_at_the_deadline_it_ends_with_its_last_lines(self, connection: SsmConnection) -> None:
        with pytest.raises(Unreachable, match=r"did not end within 1 s and was ended; its last lines:\nbegun"):
            await connection.run("echo begun; sleep 300", deadline_s=1)

    async def test_a_script_may_end_with_any_status(self, connection: SsmConnection) -> None:
        assert (await connection.run("exit 124", deadline_s=30)).status == 124

    async def test_what_is_cancelled_here_ends_there(
        self, connection: SsmConnection, service: SystemsManager, tmp_path: Path
    ) -> None:
        running = asyncio.create_task(
            connection.run(f"echo $$ >{tmp_path}/process; sleep 300", deadline_s=60, stdin=str(tmp_path).encode())
        )

        def is_left() -> bool:
            """Whether what it read still lies there; other tests may run on this machine."""
            return any(path.read_bytes() == str(tmp_path).encode() for path in Path("/run").glob("tilefleet.*/in"))

        await written(tmp_path / "process")
        assert is_left()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert service.times_asked("CancelCommand") == 1
        await gone(tmp_path / "process")
        await until(lambda: not is_left())

    async def test_what_a_script_leaves_behind_ends_with_it(self, connection: SsmConnection, tmp_path: Path) -> None:
        done = await connection.run(f"sleep 300 & echo $! >{tmp_path}/process; echo ready", deadline_s=30)
        assert done == (0, "ready\n")
        await gone(tmp_path / "process")

    async def test_being_throttled_is_no_failure(self, connection: SsmConnection, service: SystemsManager) -> None:
        service.throttled = 4
        assert (await connection.run("echo patient", deadline_s=60)).output == "patient\n"

    @pytest.mark.parametrize(
        ("outcome", "error", "words"),
        [
            ({"Status": "Failed", "StatusDetails": "Undeliverable"}, Unreachable, "says 'Undeliverable'"),
            ({"Status": "TimedOut", "StatusDetails": "DeliveryTimedOut"}, Unreachable, "says 'DeliveryTimedOut'"),
            ({"Status": "Cancelled", "StatusDetails": "Cancelled"}, Unreachable, "says 'Cancelled'"),
            ({"Status": "Failed", "StatusDetails": "AccessDenied"}, NotAllowed, "policy of its role"),
            (
                {"Status": "Failed", "StatusDetails": "Failed", "StandardErrorContent": "mktemp: No space left on device"},
                Unreachable,
                "No space left on device",
            ),
        ],
    )
    async def test_what_the_service_says_of_a_command_that_did_not_run_is_said(
        self, connection: SsmConnection, service: SystemsManager, outcome: dict[str, str], error: type[Exception], words: str
    ) -> None:
        service.outcome = {"ResponseCode": -1} | outcome
        with pytest.raises(error, match=words):
            await connection.run("echo", deadline_s=30)


class TestUploading:
    async def test_a_file_is_in_the_store_once_and_on_the_node_for_root_alone(
        self, connection: SsmConnection, store: Store, tmp_path: Path
    ) -> None:
        local = tmp_path / "local"
        local.write_bytes(os.urandom(12 << 20))
        for name in ("here", "there"):
            await connection.upload(local, f"{tmp_path}/new folder/{name}", deadline_s=60)
            remote = tmp_path / "new folder" / name
            assert remote.read_bytes() == local.read_bytes()
            assert remote.stat().st_mode & 0o777 == 0o600
        assert [entry.key.rsplit("/", 1)[-1] async for entry in store.entries()] == ["local"]

    async def test_what_does_not_fit_is_said_with_what_is_free(self, connection: SsmConnection, tmp_path: Path) -> None:
        local = tmp_path / "local"
        local.write_bytes(bytes(40 << 20))
        await connection.run(f"mkdir {tmp_path}/disk && mount -t tmpfs -o size=32m tmpfs {tmp_path}/disk", deadline_s=30)
        try:
            with pytest.raises(DoesNotFit, match=r"56\.0 MiB are needed and 32\.0 MiB are free"):
                await connection.upload(local, f"{tmp_path}/disk/remote", deadline_s=60)
        finally:
            await connection.run(f"umount {tmp_path}/disk", deadline_s=30)

    async def test_a_file_that_is_damaged_on_the_way_is_not_put_in_place(
        self, connection: SsmConnection, store: Store, tmp_path: Path
    ) -> None:
        local = tmp_path / "local"
        local.write_bytes(b"content")
        await connection.upload(local, f"{tmp_path}/first", deadline_s=60)
        [key] = [entry.key async for entry in store.entries()]
        await store.put(key, b"another")
        with pytest.raises(Unreachable, match="another SHA-256"):
            await connection.upload(local, f"{tmp_path}/second", deadline_s=60)
        assert not list(tmp_path.glob("second*"))  # noqa: ASYNC240

    async def test_a_place_that_cannot_be_written_is_said_in_the_nodes_words(
        self, connection: SsmConnection, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"content")
        with pytest.raises(NotAllowed, match=r"cannot be written on n1[^$]*(Not a directory|File exists)"):
            await connection.upload(tmp_path / "file", f"{tmp_path}/file/below", deadline_s=60)
        with pytest.raises(NotFound, match="nowhere cannot be read"):
            await connection.upload(tmp_path / "nowhere", f"{tmp_path}/x", deadline_s=60)
