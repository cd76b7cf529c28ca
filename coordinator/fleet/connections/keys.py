"""The fleet's own key pair and the files that ``ssh`` by hand reads.

The rule: a private key is written once, readable by its owner only, and never leaves the machine that made it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from coordinator.fleet.connections.known_hosts import fingerprint, written
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.errors import NotAllowed
from tilefleet.fleet_config import SshSection

__all__ = ["fingerprint", "key_in_use", "make_pair", "public_line", "write_known_hosts"]


def make_pair(files: FleetFiles, fleet: str) -> str:
    """The public half of the fleet's ed25519 pair (``ssh-ed25519 AAAA… tilefleet <fleet>``), which is made if there is none.

    Two processes that do this at once end up with the same pair. Raises NotAllowed when the files cannot be written or read.
    """
    files.make()
    try:
        if not files.private_key.exists():
            _make(files)
        return _publish(files, f"tilefleet {fleet}")
    except OSError as error:
        raise NotAllowed(
            f"the fleet's key {files.private_key} cannot be used: {error.strerror or error}; it must be readable by you alone"
        ) from error


def public_line(files: FleetFiles) -> str:
    """The public half; empty when there is no pair yet."""
    try:
        return files.public_key.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def key_in_use(files: FleetFiles, settings: SshSection) -> Path | None:
    """The private key that ssh by hand is told to use; None: whatever ssh finds by itself."""
    if settings.key_file:
        return Path(settings.key_file).expanduser()
    return files.private_key if files.private_key.exists() else None


def write_known_hosts(files: FleetFiles, pinned: Iterable[tuple[Machine, NodeRecord]]) -> None:
    """The pinned host keys in the form that ``ssh -o UserKnownHostsFile=…`` reads, all at once or not at all."""
    lines = [
        f"{written(machine.address, machine.port)} {key} {record.name}\n"
        for machine, record in pinned
        if machine.address
        for key in record.host_keys
    ]
    files.make()
    _replace(files.known_hosts, "".join(lines).encode())


def _make(files: FleetFiles) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    own = _written_beside(files.private_key, pem)
    try:
        os.link(own, files.private_key)  # fails where another process was first; then its key counts
    except FileExistsError:
        pass
    finally:
        own.unlink()


def _publish(files: FleetFiles, comment: str) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(files.private_key.read_bytes(), password=None)
    except ValueError as error:
        raise NotAllowed(
            f"{files.private_key} is no private key; remove it and another is made (nodes that know the old one must be replaced)"
        ) from error
    line = f"{key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}"
    if public_line(files) != line:
        _replace(files.public_key, f"{line}\n".encode())
    return line


def _replace(path: Path, content: bytes) -> None:
    _written_beside(path, content).replace(path)


def _written_beside(path: Path, content: bytes) -> Path:
    """A new file, 0600 from its first moment on."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return beside
