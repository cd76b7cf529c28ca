"""What an instance does at its first boot, as a shell script that cloud-init runs. Pure.

The rules: no secret is in it, as every process on the instance can read it; its parts do not depend on each other, and the
dead-man switch comes first, so that an instance ends by itself whatever else fails. All other set-up is the bootstrap's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

METADATA_URL = "http://169.254.169.254"
PUBLISH_FOR_S = 180  # a new role's credentials may take a minute to be accepted everywhere
_END = "END_OF_TILEFLEET_FILE"
_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,3}( [\w @.:+-]*)?\Z")
_AUTHORIZED = re.compile(r"^authorize '([^']+)'$", re.MULTILINE)


class File(NamedTuple):
    """A file to write, owned by root."""

    path: str
    mode: str
    text: str


class HostKeys(NamedTuple):
    """Where the public host keys go."""

    url: str
    """Of the prefix in S3 that the instance's id is added to, ``https://s3.….amazonaws.com/bucket/prefix/fleet/hostkeys``."""
    region: str
    program: str
    """Text of ``publish_host_keys``."""


def render(
    user: str,
    authorized: Sequence[str],
    dead_man: Sequence[File],
    units: Sequence[str],
    host_keys: HostKeys,
    metadata_url: str = METADATA_URL,
) -> str:
    """The script. ``units``: systemd units among the files to enable and start. Raises ValueError for what is no public key."""
    if bad := [key for key in authorized if not _KEY.match(key)]:
        raise ValueError(f"{bad[0]!r} is not a public key")
    parts = [_HEAD]
    parts += [_written(file) for file in dead_man]
    if units:
        names = " ".join(map(shlex.quote, units))
        parts.append(f"systemctl daemon-reload\nsystemctl enable --now {names}")
    parts.append(_AUTHORIZE.replace("USER", shlex.quote(user)))
    parts += [f"authorize '{key}'" for key in authorized]
    arguments = " ".join(map(shlex.quote, (host_keys.url, host_keys.region, metadata_url, str(PUBLISH_FOR_S))))
    program = _checked(_stripped(host_keys.program))
    # What does not work here is on the console, and the way by the console is left: cloud-init must not call the boot a failure.
    parts.append(f"python3 - {arguments} <<'{_END}' || :\n{program}{_END}")
    return "\n".join(parts) + "\n"


def authorized_in(script: str) -> list[str]:
    """The public keys that a script of ours authorizes: another machine's, that are to stay."""
    return _AUTHORIZED.findall(script)


def merged(*groups: Iterable[str]) -> list[str]:
    """All keys once (comments do not count), in an order that does not depend on who asks."""
    by_key = {" ".join(key.split()[:2]): key for group in groups for key in group}
    return [by_key[name] for name in sorted(by_key)]


def _written(file: File) -> str:
    path = shlex.quote(file.path)
    return (
        f"mkdir -p {shlex.quote(file.path.rpartition('/')[0])}\ncat > {path} <<'{_END}'\n{_checked(file.text)}{_END}\n"
        f"chmod {file.mode} {path}"
    )


def _checked(text: str) -> str:
    if _END in text.splitlines():
        raise ValueError(f"a file has the line {_END} in it")
    return text if text.endswith("\n") else f"{text}\n"


def _stripped(program: str) -> str:
    """A Python program without its module docstring and blank lines: user data is short of room."""
    lines = re.sub(r'\A"""[\s\S]*?"""\n', "", program).splitlines()
    return "".join(f"{line}\n" for line in lines if line.strip())


_HEAD = """#!/bin/sh
# Written by tilefleet: the first boot of a node. All of it can be read by everybody on the node; nothing in it is secret.
set -u
umask 022"""

_AUTHORIZE = """user=USER
authorize() {
  home=$(getent passwd "$user" | cut -d: -f6)
  [ -n "$home" ] || return 1
  keys=$home/.ssh/authorized_keys
  mkdir -p "$home/.ssh"
  grep -qsF "$1" "$keys" || printf '%s\\n' "$1" >> "$keys"
  chown -R "$user:" "$home/.ssh"
  chmod 700 "$home/.ssh"
  chmod 600 "$keys"
}"""
