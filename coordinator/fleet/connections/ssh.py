"""Nodes over SSH. This module and ``ssh_login`` are the only ones that know asyncssh.

The rule: a host is talked to when it proves one of its pinned keys, and never else. The settings of the person's own ssh
(~/.ssh/config) do not count, so that a fleet is reached the same way from everywhere.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.fleet.connections import refusals, uploading
from coordinator.fleet.connections.addresses import parse_address
from coordinator.fleet.connections.known_hosts import host_keys_of
from coordinator.fleet.connections.refusals import Destination, KeyRefused
from coordinator.fleet.connections.remote_command import KILL_S, Output, command_line
from coordinator.fleet.connections.ssh_login import Keys, Login, key_files, load_keys, said
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.ports import Finished
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.backoff import Backoff
from tilefleet.config import Config
from tilefleet.errors import TilefleetError, Unreachable

if TYPE_CHECKING:
    import asyncssh

__all__ = ["SshConnection", "SshTransport", "host_keys_of"]

SETTLING_S = 90.0  # a new instance's sshd is up before its first boot has authorized our key
READ_BYTES = 64 * 1024


class SshTransport:
    """A ``Transport``. Keys: ``ssh.key_file``, else the fleet's own where there is one and, with hosts, ~/.ssh/id_*; then the
    agent's."""

    def __init__(self, config: Config, files: FleetFiles) -> None:
        self._files = files
        self._has_own_hosts = has_own_hosts = config.nodes.provider == "hosts"
        self._settings = config.ssh
        self._known_hosts = Path(config.ssh.known_hosts or "~/.ssh/known_hosts").expanduser()
        self._hosts_file = str(self._known_hosts) if has_own_hosts else ""
        self._contents = uploading.Contents()

    async def connect(self, machine: Machine, record: NodeRecord, *, deadline_s: float) -> SshConnection:
        """See ``Transport``. Only a machine that is new may refuse our key for a while."""
        to = Destination(record.name, machine.address, machine.port, self._user(machine.user), record.host_keys, self._hosts_file)
        if not to.address:
            raise Unreachable(f"node {to.node} has no address: its machine is {machine.state}")
        paths = key_files(self._settings.key_file, self._files.private_key, self._has_own_hosts)  # the first up makes it just now
        keys = await asyncio.to_thread(load_keys, paths, has_agent=self._has_agent())
        settling_s = SETTLING_S if machine.launched_at and not record.ready_at else 0.0
        loop, backoff = asyncio.get_running_loop(), Backoff(0.3, 5.0)
        began = loop.time()
        while True:
            try:
                return await self._once(to, keys, began, deadline_s)
            except TilefleetError as error:
                tried_s, pause_s = loop.time() - began, backoff.next_s()
                is_settling = isinstance(error, KeyRefused) and tried_s < settling_s
                if not (error.is_retryable or is_settling) or tried_s + pause_s >= deadline_s:
                    raise
            await asyncio.sleep(pause_s)

    async def _once(self, to: Destination, keys: Keys, began: float, deadline_s: float) -> SshConnection:
        """One try, by way of the bastion if there is one."""
        bastion = None
        try:
            if self._settings.jump:
                door = await asyncio.to_thread(self._bastion)
                bastion = await Login(door, keys, self._settings, began, deadline_s).open()
            login = Login(to, keys, self._settings, began, deadline_s)
            connection = await login.open(bastion)
            return SshConnection(connection, bastion, to, self._contents, needs_sudo=await login.needs_sudo(connection))
        except BaseException:
            if bastion is not None:
                bastion.abort()
            raise

    def _bastion(self) -> Destination:
        address = parse_address(self._settings.jump, "ssh.jump")
        keys = host_keys_of(self._known_hosts, address.host, address.port)
        return Destination("the bastion", address.host, address.port, self._user(address.user), keys, str(self._known_hosts))

    def _user(self, named: str) -> str:
        return named or self._settings.user or getpass.getuser()

    def _has_agent(self) -> bool:
        return self._settings.agent and bool(os.environ.get("SSH_AUTH_SOCK"))


class SshConnection:
    """A ``Connection``."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        bastion: asyncssh.SSHClientConnection | None,
        to: Destination,
        contents: uploading.Contents,
        *,
        needs_sudo: bool,
    ) -> None:
        self._connection = connection
        self._bastion = bastion
        self._to = to
        self._contents = contents
        self._needs_sudo = needs_sudo

    async def run(
        self, script: str, *, deadline_s: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See ``Connection``. The script is seen by all users of the node; what is secret belongs into ``stdin``."""
        return await self._run(script, _one(stdin), len(stdin), deadline_s, Output(on_line))

    async def upload(self, local: Path, remote: str, *, deadline_s: float) -> None:
        """See ``Connection``."""

        async def send(script: str, pieces: AsyncIterator[bytes], stdin_bytes: int, left_s: float) -> Finished:
            return await self._run(script, pieces, stdin_bytes, left_s, Output())

        await uploading.upload(send, self._to, local, remote, await self._contents.of(local), deadline_s)

    async def close(self) -> None:
        """See ``Connection``."""
        for connection in (self._connection, self._bastion):
            if connection is not None:
                connection.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await connection.wait_closed()
                connection.abort()

    async def _run(
        self, script: str, pieces: AsyncIterator[bytes], stdin_bytes: int, deadline_s: float, output: Output
    ) -> Finished:
        import asyncssh

        coded = script.encode()
        line = command_line(coded, stdin_bytes, deadline_s, needs_sudo=self._needs_sudo)
        process: Any = None
        try:
            try:
                async with asyncio.timeout(max(0.0, deadline_s)):
                    process = await self._connection.create_process(line, encoding=None, stderr=asyncssh.STDOUT)
                    await _talk(process, coded, pieces, output)
            except TimeoutError:
                if process is not None:
                    await _end(process, output)
                raise refusals.too_slow(self._to, deadline_s, _last_lines(output)) from None
        except (asyncssh.Error, OSError) as error:
            raise refusals.gone(self._to, said(error), _last_lines(output)) from error
        finally:
            if process is not None:
                process.channel.abort()  # the node ends whatever still runs
        if process.exit_status is None:
            raise refusals.gone(self._to, "it closed the connection", _last_lines(output))
        return Finished(process.exit_status, output.close())


async def _talk(process: Any, script: bytes, pieces: AsyncIterator[bytes], output: Output) -> None:
    """Send and receive until there is nothing more to receive. Standard input stays open: its end would end the script."""
    sending = asyncio.create_task(_send(process.stdin, script, pieces))
    try:
        while data := await process.stdout.read(READ_BYTES):
            output.feed(data)
        await process.wait_closed()
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


async def _send(stdin: Any, script: bytes, pieces: AsyncIterator[bytes]) -> None:
    with suppress(BrokenPipeError):  # who needs no more of it says why by its output
        stdin.write(script)
        async for piece in pieces:
            stdin.write(piece)
            await stdin.drain()


async def _end(process: Any, output: Output) -> None:
    """The deadline is over: what runs has ``KILL_S`` for its last words."""
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(KILL_S + 1):
            process.stdin.write_eof()
            while data := await process.stdout.read(READ_BYTES):
                output.feed(data)


async def _one(stdin: bytes) -> AsyncIterator[bytes]:
    if stdin:
        yield stdin


def _last_lines(output: Output) -> str:
    return Finished(0, output.close()).last_lines()
