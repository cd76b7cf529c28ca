"""A node's disk: what it writes lies above the image that all share, and what makes it itself is written before it boots.

The rule: a disk outlives the power, and ends with the node; or becomes a layer under others, and is never written again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from tests.nodes.image import USER


@dataclass(frozen=True)
class Options:
    """How a node differs from a bare one that is fit for a fleet."""

    has_python: bool = True
    has_sudo: bool = True  # without a password, for the user
    disk_mib: int | None = None  # None: as much as the host has
    is_imposter: bool = False  # it shows another host key than the one that is announced
    layer: Path | None = None  # what its disk holds already, besides the image: of another node (``Node.as_layer``)


def make_disk(image: Path, directory: Path, options: Options) -> Path:
    """The root file system of a new node."""
    disk, root = directory / "disk", directory / "root"
    disk.mkdir()
    root.mkdir()
    if options.disk_mib is not None:
        _mount("tmpfs", disk, f"size={options.disk_mib}m,mode=755")
    (disk / "upper").mkdir()
    (disk / "work").mkdir()
    lower = f"{options.layer}:{image}" if options.layer else f"{image}"
    # A hard link to a file of a lower layer (releases share files) then copies its inode only, as it would on one disk.
    sharing = "redirect_dir=on,metacopy=on"
    _mount("overlay", root, f"lowerdir={lower},upperdir={disk}/upper,workdir={disk}/work,{sharing}")
    return root


def take_layer(directory: Path) -> Path:
    """What the node of that directory, which is off for good, wrote to its disk, without its log."""
    layer = directory / "disk" / "upper"
    subprocess.run(["umount", directory / "root"], check=True, capture_output=True)
    shutil.rmtree(layer / "var/log/journal", ignore_errors=True)
    return layer


def personalize(root: Path, name: str, address: str, options: Options) -> None:
    """Names, and what this node lacks."""
    etc = root / "etc"
    (etc / "hostname").write_text(f"{name}\n", encoding="utf-8")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n", encoding="utf-8")
    (etc / "machine-id").write_text(f"{secrets.token_hex(16)}\n", encoding="utf-8")
    if not options.has_sudo:
        (etc / "sudoers.d" / USER).unlink()
    if not options.has_python:
        for program in (root / "usr/bin").glob("python3*"):
            program.unlink()


def admit(root: Path, public_key: str) -> None:
    """Let the holder of the key log in, as the user and as root."""
    for home in (root / "root", root / "home" / USER):
        directory = home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        keys = directory / "authorized_keys"
        keys.write_text(public_key, encoding="utf-8")
        for path in (directory, keys):
            os.chown(path, home.stat().st_uid, home.stat().st_gid)


def write_host_key(root: Path, is_imposter: bool) -> str:
    """Give the node a host key; returns the public one that is announced."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    write_private_key(key, root / "etc/ssh/ssh_host_ed25519_key")
    key.write_public_key(root / "etc/ssh/ssh_host_ed25519_key.pub")
    announced = asyncssh.generate_private_key("ssh-ed25519") if is_imposter else key
    return announced.export_public_key().decode().strip()


def write_private_key(key: asyncssh.SSHKey, path: Path) -> None:
    """For nobody else to read, or OpenSSH refuses to use it."""
    path.touch(mode=0o600)
    key.write_private_key(path)


def _mount(fs_type: str, target: Path, options: str) -> None:
    subprocess.run(["mount", "-t", fs_type, "-o", options, fs_type, target], check=True, capture_output=True)
