"""Addresses of machines as configurations have them: ``address``, ``user@address``, ``user@address:port``, ``[IPv6]:port``."""

from __future__ import annotations

import re
from typing import NamedTuple

from coordinator.fleet.connections.known_hosts import SSH_PORT
from tilefleet.errors import BadConfig

# What begins with "-" would be an option of ssh.
_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z_][A-Za-z0-9_.-]*)@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)|(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*))"
    r"(?::(?P<port>[0-9]{1,5}))?\Z"
)


class Address(NamedTuple):
    """Where SSH goes. ``user`` is empty where none was named."""

    host: str
    port: int = SSH_PORT
    user: str = ""


def parse_address(text: str, key: str) -> Address:
    """The parts of an address. ``key`` names the setting that it is from. Raises BadConfig."""
    found = _ADDRESS.match(text.strip())
    port = int(found["port"] or SSH_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise BadConfig(f"{key}: {text!r} is no address; write address, user@address, user@address:port or user@[IPv6]:port")
    return Address(found["six"] or found["name"] or found["bare"], port, found["user"] or "")
