"""How a person gets into a node: the command line of their own ssh, or of AWS's session manager. Pure.

The rule: their ssh is as strict about host keys as we are.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from coordinator.fleet.connections.addresses import parse_address
from coordinator.fleet.connections.known_hosts import SSH_PORT
from coordinator.fleet.records import Machine
from tilefleet.fleet_config import SshSection


def ssh_words(machine: Machine, settings: SshSection, *, known_hosts: Path, key: Path | None, words: Sequence[str]) -> list[str]:
    """The command line of ``ssh``. ``words``: what is run there; nothing: a shell."""
    user = machine.user or settings.user
    line = ["ssh", *_strict(known_hosts), "-o", f"ServerAliveInterval={max(1, round(settings.keepalive.s))}"]
    line += ["-i", str(key)] if key else []
    line += [] if settings.agent else ["-o", "IdentityAgent=none"]
    line += ["-o", f"ProxyCommand={shlex.join(_bastion(settings, key))}"] if settings.jump else []
    line += ["-p", str(machine.port)] if machine.port != SSH_PORT else []
    line += ["-l", user] if user else []
    return [*line, "--", machine.address, *words]


def session_words(machine: Machine, region: str, words: Sequence[str]) -> list[str]:
    """The command line of AWS's session manager, which is a plug-in of its own for AWS's command line."""
    line = ["aws", "ssm", "start-session", "--target", machine.id, "--region", region]
    if not words:
        return line
    parameters = json.dumps({"command": [" ".join(words)]})
    return [*line, "--document-name", "AWS-StartInteractiveCommand", "--parameters", parameters]


def _bastion(settings: SshSection, key: Path | None) -> list[str]:
    """The command that ssh talks through. "%" of a path would be one of ssh's own signs there."""
    address = parse_address(settings.jump, "ssh.jump")
    known_hosts = Path(settings.known_hosts or "~/.ssh/known_hosts").expanduser()
    user = address.user or settings.user
    line = [
        "ssh",
        *_strict(known_hosts),
        *(["-i", str(key)] if key else []),
        "-p",
        str(address.port),
        *(["-l", user] if user else []),
    ]
    return [word.replace("%", "%%") for word in line] + ["-W", "[%h]:%p", "--", address.host]


def _strict(known_hosts: Path) -> list[str]:
    file = f'"{known_hosts}"'.replace("%", "%%")
    return ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={file}", "-o", "GlobalKnownHostsFile=/dev/null"]
