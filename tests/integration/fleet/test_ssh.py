"""Nodes over SSH, against a real OpenSSH server: what runs there, what arrives there, and who is not talked to."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncssh
import msgspec
import pytest
import pytest_asyncio

from coordinator.fleet.connections.known_hosts import fingerprint
from coordinator.fleet.connections.ssh import SshConnection, SshTransport
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.records import Machine, NodeRecord
from tests.integration.fleet.processes import gone, until, written
from tests.integration.fleet.sshd import Sshd, free_port, running_sshd, why_no_sshd
from tilefleet.config import Config
from tilefleet.errors import DoesNotFit, NotAllowed, NotFound, TilefleetError, Unreachable
from tilefleet.fleet_config import NodesSection, SshSection
from tilefleet.quantities import Duration

pytestmark = [pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd()), pytest.mark.thorough]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetFiles:
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))  # the keys of the person who runs the tests stay out
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return FleetFiles("test")


def config(sshd: Sshd, **ssh: object) -> Config:
    settings = {"user": "root", "key_file": str(sshd.client_key), "connect": Duration("3 s")} | ssh
    return Config(nodes=NodesSection(provider="hosts"), ssh=SshSection(**settings))  # type: ignore[arg-type]


def node(sshd: Sshd, **machine: object) -> tuple[Machine, NodeRecord]:
    known = Machine("m", "n1", "running", address="127.0.0.1", port=sshd.port)
    return msgspec.structs.replace(known, **machine), NodeRecord("n1", "m", host_keys=(sshd.host_key,))


@pytest_asyncio.fixture
async def connection(sshd: Sshd, files: FleetFiles) -> AsyncIterator[SshConnection]:
    connection = await SshTransport(config(sshd), files).connect(*node(sshd), deadline_s=20)
    yield connection
    await connection.close()


async def refusal(sshd: Sshd, files: FleetFiles, machine: Machine, record: NodeRecord, **ssh: object) -> TilefleetError:
    """What trying to connect raises."""
    with pytest.raises(TilefleetError) as caught:
        await SshTransport(config(sshd, **ssh), files).connect(machine, record, deadline_s=2)
    return caught.value


class TestRunning:
    async def test_output_and_errors_come_in_order_with_the_status(self, connection: SshConnection) -> None:
        lines: list[str] = []
        done = await connection.run("echo one; echo two >&2; cat; exit 3", deadline_s=20, stdin=b"x\0y\n", on_line=lines.append)
        assert (done.status, done.output) == (3, "one\ntwo\nx\0y\n")
        assert lines == ["one", "two", "x\0y"]

    async def test_it_is_root_in_a_known_environment(self, connection: SshConnection) -> None:
        done = await connection.run('echo "$(id -u) $HOME $LC_ALL $(pwd)"; umask', deadline_s=20)
        assert done.output == "0 /root C.UTF-8 /\n0022\n"

    async def test_a_script_that_reads_too_much_sees_the_end(self, connection: SshConnection) -> None:
        assert (await connection.run("cat; echo end", deadline_s=20)).output == "end\n"

    async def test_a_script_need_not_read_what_it_gets(self, connection: SshConnection) -> None:
        done = await connection.run("echo enough; exit 4", deadline_s=20, stdin=bytes(8 << 20))
        assert done == (4, "enough\n")

    async def test_only_the_end_of_long_output_is_kept_and_all_of_it_is_seen(self, connection: SshConnection) -> None:
        lines: list[str] = []
        done = await connection.run("seq 1 100000", deadline_s=30, on_line=lines.append)
        assert len(done.output) == 64 * 1024
        assert done.output.endswith("\n99999\n100000\n")
        assert lines == [str(number) for number in range(1, 100001)]

    async def test_at_the_deadline_all_that_runs_is_ended_and_the_last_words_are_in_the_sentence(
        self, connection: SshConnection, tmp_path: Path
    ) -> None:
        script = f"echo begun; echo $$ >{tmp_path}/parent; sh -c 'echo $$ >{tmp_path}/child; sleep 300' & sleep 300"
        with pytest.raises(Unreachable, match=r"did not end within 3 s and was ended; its last lines:\nbegun"):
            await connection.run(script, deadline_s=3)
        await gone(tmp_path / "child")
        await gone(tmp_path / "parent")

    async def test_what_is_cancelled_here_ends_there(self, connection: SshConnection, tmp_path: Path) -> None:
        running = asyncio.create_task(connection.run(f"echo $$ >{tmp_path}/process; sleep 300", deadline_s=100))
        await written(tmp_path / "process")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await gone(tmp_path / "process")

    async def test_what_a_script_leaves_behind_neither_delays_nor_outlives_it(
        self, connection: SshConnection, tmp_path: Path
    ) -> None:
        done = await connection.run(f"sleep 300 & echo $! >{tmp_path}/process; echo ready", deadline_s=60)
        assert done == (0, "ready\n")
        await gone(tmp_path / "process")

    async def test_several_run_at_once_on_one_connection(self, connection: SshConnection) -> None:
        done = await asyncio.gather(*(connection.run(f"echo {number}", deadline_s=30) for number in range(8)))
        assert [one.output for one in done] == [f"{number}\n" for number in range(8)]

    async def test_a_connection_that_breaks_is_said(self, connection: SshConnection) -> None:
        with pytest.raises(Unreachable, match=r"the connection to n1 .* broke"):
            await connection.run("echo before; kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $(ps -o ppid= -p $$)))", deadline_s=20)


class TestUploading:
    async def test_a_file_arrives_whole_for_root_alone(self, connection: SshConnection, tmp_path: Path) -> None:
        local, remote = tmp_path / "local", tmp_path / "new folder" / "it's here"
        local.write_bytes(os.urandom(3_000_001))
        await connection.upload(local, str(remote), deadline_s=60)
        assert remote.read_bytes() == local.read_bytes()
        assert remote.stat().st_mode & 0o777 == 0o600
        assert list(remote.parent.iterdir()) == [remote]

    async def test_what_is_there_is_not_sent_again(self, connection: SshConnection, tmp_path: Path) -> None:
        local, remote = tmp_path / "local", tmp_path / "remote"
        local.write_bytes(b"content")
        await connection.upload(local, str(remote), deadline_s=60)
        before = remote.stat()
        await connection.upload(local, str(remote), deadline_s=60)
        assert remote.stat().st_ino == before.st_ino
        local.write_bytes(b"another")
        await connection.upload(local, str(remote), deadline_s=60)
        assert remote.read_bytes() == b"another"

    async def test_an_upload_goes_on_where_it_broke(self, connection: SshConnection, tmp_path: Path) -> None:
        local, remote = tmp_path / "local", tmp_path / "remote"
        local.write_bytes(os.urandom(40 << 20))
        uploading = asyncio.create_task(connection.upload(local, str(remote), deadline_s=60))
        await until(lambda: any(part.stat().st_size for part in parts(tmp_path)))
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        [part] = parts(tmp_path)
        await settles(part)
        had = part.read_bytes()
        assert local.read_bytes().startswith(had)
        await connection.upload(local, str(remote), deadline_s=60)
        assert remote.read_bytes() == local.read_bytes()

    async def test_a_damaged_part_is_sent_again_from_its_beginning(self, connection: SshConnection, tmp_path: Path) -> None:
        local, remote = tmp_path / "local", tmp_path / "remote"
        local.write_bytes(os.urandom(100_000))
        await connection.upload(local, str(remote), deadline_s=60)
        digest = (await connection.run(f"sha256sum <{shlex.quote(str(remote))}", deadline_s=20)).output
        remote.unlink()
        (tmp_path / f"remote.{digest[:16]}.part").write_bytes(b"damaged")
        await connection.upload(local, str(remote), deadline_s=60)
        assert remote.read_bytes() == local.read_bytes()
        assert parts(tmp_path) == []

    async def test_what_does_not_fit_is_said_before_it_is_sent(self, connection: SshConnection, tmp_path: Path) -> None:
        local = tmp_path / "local"
        with local.open("wb") as file:
            file.truncate(200 << 20)
        await connection.run(f"mkdir -p {tmp_path}/disk; mount -t tmpfs -o size=64m tmpfs {tmp_path}/disk", deadline_s=20)
        try:
            with pytest.raises(
                DoesNotFit, match=r"disk/remote does not fit on n1 .*216\.0 MiB are needed and 64\.0 MiB are free"
            ):
                await connection.upload(local, f"{tmp_path}/disk/remote", deadline_s=60)
        finally:
            await connection.run(f"umount {tmp_path}/disk", deadline_s=20)

    async def test_a_place_that_cannot_be_written_is_said_in_the_nodes_words(
        self, connection: SshConnection, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"content")
        with pytest.raises(NotAllowed, match=r"cannot be written on n1[^$]*(Not a directory|File exists)"):
            await connection.upload(tmp_path / "file", str(tmp_path / "file" / "below"), deadline_s=60)
        with pytest.raises(NotFound, match="nowhere cannot be read"):
            await connection.upload(tmp_path / "nowhere", str(tmp_path / "x"), deadline_s=60)


class TestWhoIsNotTalkedTo:
    async def test_a_wrong_host_key_shows_both_and_how_to_go_on(self, sshd: Sshd, files: FleetFiles) -> None:
        machine, record = node(sshd)
        other = asyncssh.generate_private_key("ssh-ed25519")
        pinned = msgspec.structs.replace(record, host_keys=(other.export_public_key().decode().strip(),))
        said = await refusal(sshd, files, machine, pinned)
        assert isinstance(said, NotAllowed)
        assert fingerprint(sshd.host_key) in str(said)
        assert other.get_fingerprint() in str(said)
        assert f"ssh-keygen -f {Path.home()}/.ssh/known_hosts -R '[127.0.0.1]:{sshd.port}'" in str(said)

    async def test_a_host_key_of_another_kind_is_wrong_too(self, sshd: Sshd, files: FleetFiles) -> None:
        machine, record = node(sshd)
        other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        pinned = msgspec.structs.replace(record, host_keys=(other.export_public_key().decode().strip(),))
        said = await refusal(sshd, files, machine, pinned)
        assert f"ssh-ed25519 {fingerprint(sshd.host_key)} instead of ecdsa-sha2-nistp256 {other.get_fingerprint()}" in str(said)

    async def test_without_a_pinned_key_nothing_is_sent(self, sshd: Sshd, files: FleetFiles) -> None:
        machine, record = node(sshd)
        said = await refusal(sshd, files, machine, msgspec.structs.replace(record, host_keys=()))
        assert isinstance(said, NotAllowed)
        assert "no unknown one is ever accepted" in str(said)

    async def test_a_key_that_is_refused_is_named(self, sshd: Sshd, files: FleetFiles, tmp_path: Path) -> None:
        stranger = tmp_path / "stranger"
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(stranger)
        stranger.chmod(0o600)
        said = await refusal(sshd, files, *node(sshd), key_file=str(stranger))
        assert isinstance(said, NotAllowed)
        assert f"lets root in with none of these keys: {stranger} (SHA256:" in str(said)

    async def test_having_no_key_at_all_is_said(self, sshd: Sshd, files: FleetFiles) -> None:
        said = await refusal(sshd, files, *node(sshd), key_file="")
        assert "wants a key, and there is none" in str(said)

    async def test_a_key_with_a_passphrase_is_for_the_agent(self, sshd: Sshd, files: FleetFiles, tmp_path: Path) -> None:
        key = tmp_path / "locked"
        key.write_bytes(sshd.client_key.read_bytes())
        key.chmod(0o600)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "of no value", "-f", str(key)], check=True)  # noqa: ASYNC221
        said = await refusal(sshd, files, *node(sshd), key_file=str(key))
        assert str(said).endswith(f"say: ssh-add {key}")

    async def test_a_key_that_others_can_read_is_not_used(self, sshd: Sshd, files: FleetFiles, tmp_path: Path) -> None:
        key = tmp_path / "open"
        key.write_bytes(sshd.client_key.read_bytes())
        key.chmod(0o644)
        said = await refusal(sshd, files, *node(sshd), key_file=str(key))
        assert str(said).endswith(f"say: chmod 600 {key}")

    async def test_a_key_that_is_not_there_is_said(self, sshd: Sshd, files: FleetFiles, tmp_path: Path) -> None:
        said = await refusal(sshd, files, *node(sshd), key_file=str(tmp_path / "none"))
        assert isinstance(said, NotFound)

    async def test_a_closed_port_is_refused(self, sshd: Sshd, files: FleetFiles) -> None:
        said = await refusal(sshd, files, *node(sshd, port=free_port()))
        assert isinstance(said, Unreachable)
        assert "refuses connections to port" in str(said)

    async def test_a_name_that_does_not_resolve_is_said_at_once(self, sshd: Sshd, files: FleetFiles) -> None:
        said = await refusal(sshd, files, *node(sshd, address="no-such-host.invalid"))
        assert isinstance(said, Unreachable)
        assert "the name no-such-host.invalid does not resolve" in str(said)

    async def test_what_listens_and_says_nothing_is_not_waited_for(self, sshd: Sshd, files: FleetFiles) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            said = await refusal(sshd, files, *node(sshd, port=listening.getsockname()[1]))
        assert "takes connections on port" in str(said)
        assert "says nothing" in str(said)

    async def test_one_that_hangs_after_the_log_in_is_not_waited_for(self, sshd: Sshd, files: FleetFiles) -> None:
        async def hang(process: asyncssh.SSHServerProcess[str]) -> None:
            await process.stdin.read()

        key = asyncssh.generate_private_key("ssh-ed25519")
        authorized = str(sshd.client_key.parent / "authorized")
        hanging = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], authorized_client_keys=authorized, process_factory=hang
        )
        machine, record = node(sshd, port=hanging.get_port())
        pinned = msgspec.structs.replace(record, host_keys=(key.export_public_key().decode().strip(),))
        async with hanging:
            said = await refusal(sshd, files, machine, pinned)
        assert isinstance(said, Unreachable)
        assert "then says nothing" in str(said)

    async def test_one_that_ends_every_connection_is_tried_until_the_deadline(self, sshd: Sshd, files: FleetFiles) -> None:
        def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            turned.append(1)
            writer.close()

        turned: list[int] = []
        async with await asyncio.start_server(turn_away, "127.0.0.1", 0) as server:
            said = await refusal(sshd, files, *node(sshd, port=server.sockets[0].getsockname()[1]))
        assert isinstance(said, Unreachable)
        assert "ends the connection before we are logged in" in str(said)
        assert len(turned) > 1

    async def test_a_user_without_a_shell_is_told_from_one_without_a_key(
        self, tmp_path: Path, files: FleetFiles, start: Callable[..., Sshd]
    ) -> None:
        closed = start("ForceCommand echo this account is closed; exit 1")
        said = await refusal(closed, files, *node(closed))
        assert isinstance(said, NotAllowed)
        assert "runs no commands: it says 'this account is closed'" in str(said)

    async def test_a_user_who_may_not_become_root_is_told_so(
        self, files: FleetFiles, start: Callable[..., Sshd], tmp_path: Path
    ) -> None:
        words = 'echo "tilefleet 1000"; echo "sudo: a password is required"; exit 1'  # what the question for root gives there
        (tmp_path / "shell").write_text(f"#!/bin/sh\n{words}\n", encoding="utf-8")
        (tmp_path / "shell").chmod(0o755)
        forced = start(f"ForceCommand {tmp_path}/shell")
        said = await refusal(forced, files, *node(forced))
        assert isinstance(said, NotAllowed)
        assert "may not become root without a password (sudo: a password is required)" in str(said)


class TestTheWay:
    async def test_the_agents_keys_serve_where_the_others_do_not(
        self, sshd: Sshd, files: FleetFiles, agent: Callable[[Path], None]
    ) -> None:
        agent(sshd.client_key)
        connection = await SshTransport(config(sshd, key_file=""), files).connect(*node(sshd), deadline_s=20)
        assert (await connection.run("echo in", deadline_s=20)).output == "in\n"
        await connection.close()
        said = await refusal(sshd, files, *node(sshd), key_file="", agent=False)
        assert "there is none" in str(said)

    async def test_a_bastion_is_passed_when_it_proves_its_key(
        self, sshd: Sshd, files: FleetFiles, start: Callable[..., Sshd], tmp_path: Path
    ) -> None:
        bastion = start(f"AuthorizedKeysFile {sshd.client_key.parent}/authorized")
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{bastion.port} {bastion.host_key}\n", encoding="utf-8")
        settings = config(sshd, jump=f"root@127.0.0.1:{bastion.port}", known_hosts=str(known))
        connection = await SshTransport(settings, files).connect(*node(sshd), deadline_s=20)
        assert (await connection.run("echo beyond", deadline_s=20)).output == "beyond\n"
        await connection.close()
        said = await refusal(
            sshd, files, *node(sshd, port=free_port()), jump=f"root@127.0.0.1:{bastion.port}", known_hosts=str(known)
        )
        assert "the bastion cannot reach n1" in str(said)
        known.write_text(f"[127.0.0.1]:{bastion.port} {sshd.host_key}\n", encoding="utf-8")
        said = await refusal(sshd, files, *node(sshd), jump=f"root@127.0.0.1:{bastion.port}", known_hosts=str(known))
        assert "the bastion (127.0.0.1" in str(said)
        assert "proves another host key" in str(said)

    async def test_a_new_machine_may_refuse_our_key_until_it_has_settled(
        self, files: FleetFiles, start: Callable[..., Sshd]
    ) -> None:
        booting = start()
        authorized = booting.client_key.parent / "authorized"
        key = authorized.read_bytes()
        authorized.write_bytes(b"")
        transport = SshTransport(config(booting), files)
        connecting = asyncio.create_task(transport.connect(*node(booting, launched_at=1.0), deadline_s=30))
        await until(lambda: "Connection closed by authenticating user root" in booting.log.read_text(encoding="utf-8"))
        authorized.write_bytes(key)
        await (await connecting).close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Starts another server with these lines in its configuration."""
    numbers = itertools.count()
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(running_sshd(tmp_path / f"sshd-{next(numbers)}", options))


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """An ssh-agent; takes a key file."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)

    def add(key: Path) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        while not path.exists():
            assert process.poll() is None
        subprocess.run(["ssh-add", "-q", str(key)], check=True)

    yield add
    process.terminate()
    process.wait()


async def settles(path: Path) -> None:
    """Until nobody writes to it any more."""
    await until(lambda: not any(_is_open(process, path) for process in Path("/proc").glob("[0-9]*")))


def parts(directory: Path) -> list[Path]:
    return list(directory.glob("remote.*.part"))


def _is_open(process: Path, path: Path) -> bool:
    try:
        return any(link.readlink() == path for link in (process / "fd").iterdir())
    except OSError:
        return False
