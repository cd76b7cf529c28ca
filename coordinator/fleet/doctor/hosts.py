"""Machines of yours: the name, the port, the host key, the log-in, sudo, and then what they say of themselves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from coordinator.fleet.connections.addresses import Address, parse_address
from coordinator.fleet.connections.known_hosts import host_keys_of
from coordinator.fleet.connections.ssh import SshTransport
from coordinator.fleet.doctor.findings import Finding, failure, of_error
from coordinator.fleet.doctor.judgements import hosts as judge
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.ports import Transport
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.config import Config
from tilefleet.errors import TilefleetError

LOG_IN_S = 15.0
PROBE_S = 15.0
AT_ONCE = 32


async def examine(config: Config) -> list[Finding]:
    """Every machine that the configuration names, at once."""
    try:
        addresses = _addresses(config)
    except TilefleetError as error:
        return [of_error(judge.AREA, "addresses", error)]
    transport, turns = SshTransport(config, FleetFiles(config.fleet.name)), asyncio.Semaphore(AT_ONCE)

    async def one(text: str, address: Address) -> list[Finding]:
        async with turns:
            return await _examine(config, transport, text, address)

    found = await asyncio.gather(*(one(text, address) for text, address in addresses.items()))
    return [finding for findings in found for finding in findings]


def _addresses(config: Config) -> dict[str, Address]:
    found = {text: parse_address(text, "hosts.addresses") for text in config.hosts.addresses}
    if config.nodes.coordinator == "node":
        found[config.hosts.coordinator] = parse_address(config.hosts.coordinator, "hosts.coordinator")
    return found


async def _examine(config: Config, transport: Transport, text: str, address: Address) -> list[Finding]:
    try:
        keys = await asyncio.to_thread(_host_keys, config.ssh.known_hosts, address)
        machine = Machine(id=text, node="n0", state="running", address=address.host, port=address.port, user=address.user)
        record = NodeRecord(name="n0", machine=text, host_keys=keys)
        connection = await transport.connect(machine, record, deadline_s=config.ssh.connect.s + LOG_IN_S)
        try:
            asked_at = time.time()
            done = await connection.run(judge.PROBE, deadline_s=PROBE_S)
            answered_at = time.time()
        finally:
            await connection.close()
    except TilefleetError as error:
        return [of_error(judge.AREA, text, error)]
    if done.status != 0:
        return [failure(judge.AREA, text, f"it cannot be asked: {done.last_lines(2)}", "log in there and look")]
    return judge.judge(text, judge.parse(done.output, asked_at=asked_at, answered_at=answered_at), config)


def _host_keys(file: str, address: Address) -> tuple[str, ...]:
    return host_keys_of(Path(file or "~/.ssh/known_hosts").expanduser(), address.host, address.port)
