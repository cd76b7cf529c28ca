"""Nodes over AWS Systems Manager, for accounts that forbid port 22: the same ``Connection`` as ``ssh`` gives.

The rules: files and input go through the store, from where a node fetches them by a presigned URL and checks them; output is
seen when a script has ended, as the service shows none before.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coordinator.fleet.connections import managed_command, refusals
from coordinator.fleet.connections.known_hosts import SSH_PORT
from coordinator.fleet.connections.refusals import Destination
from coordinator.fleet.connections.remote_command import Output
from coordinator.fleet.connections.uploading import SPARE_BYTES, Contents, pieces_of
from coordinator.fleet.ports import Finished
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet import aws, layout
from tilefleet.backoff import Backoff
from tilefleet.config import Config
from tilefleet.errors import BadConfig, NotAllowed, TilefleetError, Unreachable
from tilefleet.store import Store

__all__ = ["SsmConnection", "SsmTransport"]

DOCUMENT = "AWS-RunShellScript"
GRACE_S = 20.0  # from the deadline of a script to word of its end
DELIVERY_S = 60  # the service's own limit for reaching the agent; 30 is the least it takes
CANCEL_S = 5.0
FIRST_LOOK_S, LAST_LOOK_S = 0.4, 3.0
_RUNNING = {"Pending", "InProgress", "Delayed", "Cancelling"}


class SsmTransport:
    """A ``Transport`` of an ec2 fleet."""

    def __init__(self, config: Config, store: Store) -> None:
        if not store.url.startswith("s3://"):
            raise BadConfig('nodes.transport = "ssm" needs a store in S3, through which nodes get their files; set store.url')
        self._config = config
        self._depot = _Depot(config, store)

    async def connect(self, machine: Machine, record: NodeRecord, *, deadline_s: float) -> SsmConnection:
        """See ``Transport``. Host keys play no part: AWS answers for who the machine is."""
        to = Destination(record.name, machine.id, SSH_PORT, "root", ())
        region = aws.region_of(self._config.ec2.region, self._config.store.region)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(aws.client("ssm", region=region, endpoint_url=self._config.ec2.endpoint_url))
            await _until_online(client, to, deadline_s)
            return SsmConnection(client, to, self._depot, stack.pop_all())


async def _until_online(client: Any, to: Destination, deadline_s: float) -> None:
    loop, backoff = asyncio.get_running_loop(), Backoff(1.0, 5.0)
    ends_at = loop.time() + deadline_s
    while True:
        with aws.errors("Systems Manager"):
            filters = [{"Key": "InstanceIds", "Values": [to.address]}]
            answer = await client.describe_instance_information(Filters=filters)
        seen = [one.get("PingStatus", "") for one in answer.get("InstanceInformationList", [])]
        if "Online" in seen:
            return
        pause_s = backoff.next_s()
        if loop.time() + pause_s >= ends_at:
            raise refusals.not_managed(to, deadline_s, seen[0] if seen else "")
        await asyncio.sleep(pause_s)


class SsmConnection:
    """A ``Connection``."""

    def __init__(self, client: Any, to: Destination, depot: _Depot, stack: AsyncExitStack) -> None:
        self._client = client
        self._to = to
        self._depot = depot
        self._stack = stack

    async def run(
        self, script: str, *, deadline_s: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """See ``Connection``. Scripts stay in the account's history of commands; what is secret belongs into ``stdin``."""
        async with self._depot.lent(stdin, deadline_s) as url:
            said = await self._run(managed_command.wrapped(script, url, deadline_s), deadline_s)
        output = Output(on_line)
        output.feed(said.output.encode())
        done = Finished(said.status, output.close())
        if said.is_late:
            raise refusals.too_slow(self._to, deadline_s, done.last_lines())
        return done

    async def upload(self, local: Path, remote: str, *, deadline_s: float) -> None:
        """See ``Connection``. However many nodes get a file, it is uploaded to the store once."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                size_bytes, digest, url = await self._depot.stored(local, deadline_s)
        except TimeoutError:
            raise Unreachable(f"{local} did not get into the store within {deadline_s:.4g} s") from None
        needed_bytes = size_bytes + SPARE_BYTES
        script = managed_command.fetching(remote, url, digest, needed_bytes)
        done = await self.run(script, deadline_s=ends_at - loop.time())
        if done.status == managed_command.FULL:
            free_kib = done.output.strip()
            raise refusals.disk_full(self._to, remote, needed_bytes, int(free_kib) * 1024 if free_kib.isdigit() else None)
        if done.status == managed_command.DAMAGED:
            raise refusals.damaged(self._to, remote)
        if done.status:
            raise refusals.not_written(self._to, remote, done.last_lines())

    async def close(self) -> None:
        """See ``Connection``."""
        await self._stack.aclose()

    async def _run(self, command: str, deadline_s: float) -> managed_command.Said:
        """Raises Unreachable when the node did not take the command, or did not end it in time."""
        sending = asyncio.create_task(self._sent(command, deadline_s))
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                return self._judged(await self._ended(await asyncio.shield(sending)))
        except (asyncio.CancelledError, TimeoutError) as error:
            await asyncio.shield(self._cancel(sending))
            if isinstance(error, TimeoutError):
                raise refusals.too_slow(self._to, deadline_s) from None
            raise

    async def _sent(self, command: str, deadline_s: float) -> str:
        """Its id."""
        with aws.errors(f"a command for {self._to.node} by Systems Manager"):
            sent = await self._client.send_command(
                InstanceIds=[self._to.address],
                DocumentName=DOCUMENT,
                TimeoutSeconds=DELIVERY_S,
                Comment="tilefleet",
                Parameters={"commands": [command], "executionTimeout": [str(round(deadline_s + GRACE_S))]},
            )
        return str(sent["Command"]["CommandId"])

    async def _ended(self, command_id: str) -> dict[str, Any]:
        backoff = Backoff(FIRST_LOOK_S, LAST_LOOK_S)
        while True:
            await backoff.sleep()
            try:
                with aws.errors(f"a command on {self._to.node} by Systems Manager"):
                    found: dict[str, Any] = await self._client.get_command_invocation(
                        CommandId=command_id, InstanceId=self._to.address
                    )
            except TilefleetError as error:
                if not error.is_retryable:  # throttled, or not known everywhere yet
                    raise
                continue
            if found["Status"] not in _RUNNING:
                return found

    def _judged(self, found: dict[str, Any]) -> managed_command.Said:
        output = found.get("StandardOutputContent", "")
        if said := managed_command.unwrapped(output):
            return said
        words = "\n".join((output + found.get("StandardErrorContent", "")).strip().splitlines()[-5:])
        detail = found.get("StatusDetails") or found["Status"]
        if detail == "AccessDenied":
            raise NotAllowed(f"Systems Manager may not run commands on {self._to.who}; check the policy of its role")
        raise refusals.gone(self._to, f"Systems Manager says {detail!r}", words)

    async def _cancel(self, sending: asyncio.Task[str]) -> None:
        """Also when it is just being sent: it is not known then whether it was."""
        with suppress(TimeoutError, TilefleetError):
            async with asyncio.timeout(CANCEL_S):
                command_id = await sending
                with aws.errors("Systems Manager"):
                    await self._client.cancel_command(CommandId=command_id, InstanceIds=[self._to.address])


class _Depot:
    """The part of the store that nodes fetch from."""

    def __init__(self, config: Config, store: Store) -> None:
        self._settings = config.store
        self._store = store
        self._contents = Contents()
        self._uploading = asyncio.Lock()

    async def stored(self, local: Path, valid_s: float) -> tuple[int, str, str]:
        """Size, SHA-256 and URL of a file, which is in the store then."""
        size_bytes, digest = await self._contents.of(local)
        key = layout.artefact(digest, local.name)
        async with self._uploading:
            there = await self._store.head(key)
            if there is None or there.size_bytes != size_bytes:
                await self._store.put_stream(key, pieces_of(local))
        return size_bytes, digest, await self._url(key, valid_s)

    @asynccontextmanager
    async def lent(self, data: bytes, valid_s: float) -> AsyncIterator[str]:
        """The URL of some bytes, which are in the store as long as they are needed; empty for none."""
        if not data:
            yield ""
            return
        key = layout.artefact(hashlib.sha256(data).hexdigest(), f"input-{secrets.token_hex(8)}")
        await self._store.put(key, data)
        try:
            yield await self._url(key, valid_s)
        finally:
            with suppress(TilefleetError):
                await self._store.delete([key])

    async def _url(self, key: str, valid_s: float) -> str:
        at = urlsplit(self._store.url_of(key))
        # A name with dots does not fit S3's certificate, which is for one label.
        style = "path" if self._settings.endpoint_url or "." in at.netloc else "virtual"
        async with aws.client(
            "s3",
            region=self._settings.region,
            endpoint_url=self._settings.endpoint_url,
            config={"signature_version": "s3v4", "s3": {"addressing_style": style}},
        ) as client:
            with aws.errors("S3"):
                url: str = await client.generate_presigned_url(
                    "get_object",
                    Params={"Bucket": at.netloc, "Key": at.path.removeprefix("/")},
                    ExpiresIn=max(60, round(valid_s) + 60),
                )
        return url
