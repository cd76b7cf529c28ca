"""Host keys as ``known_hosts`` files have them.

The rule: a key that is not written down is unknown, a revoked one is never trusted, and a certificate authority is no host key.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
from pathlib import Path

from tilefleet.errors import NotAllowed, NotFound

SSH_PORT = 22


def host_keys_of(path: Path, host: str, port: int = SSH_PORT) -> tuple[str, ...]:
    """Public keys (``ssh-ed25519 AAAA…``) that the file has for a host; () when it has none.

    Raises NotFound when there is no such file and NotAllowed when it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise NotFound(
            f"there is no file {path} with the host keys of your machines; connect to each once by hand with ssh, which makes "
            "it, or name another file as ssh.known_hosts"
        ) from None
    except OSError as error:
        raise NotAllowed(f"the host keys in {path} cannot be read: {error.strerror or error}") from error
    return matching(text, host, port)


def matching(text: str, host: str, port: int = SSH_PORT) -> tuple[str, ...]:
    """The same for the text of a file. Lines that nobody understands are passed over, as OpenSSH does."""
    name = written(host, port)
    trusted: list[str] = []
    revoked: set[str] = set()
    for line in text.splitlines():
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or not _is_key(words[2]) or not _matches(words[0], name):
            continue
        key = f"{words[1]} {words[2]}"
        if marker == "@revoked":
            revoked.add(key)
        elif not marker and key not in trusted:
            trusted.append(key)
    return tuple(key for key in trusted if key not in revoked)


def written(host: str, port: int = SSH_PORT) -> str:
    """A host as the first column has it: with its port in brackets unless that is 22."""
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def fingerprint(key: str) -> str:
    """``SHA256:…`` of ``ssh-ed25519 AAAA…``, as ``ssh-keygen -l`` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(key.split()[1])).digest()).decode().rstrip("=")


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|"):
        return _matches_hash(patterns, name)
    found = False
    for pattern in patterns.lower().split(","):
        is_negated = pattern.startswith("!")
        # In these files "[" is a letter: it begins an address with a port.
        if fnmatch.fnmatchcase(name, pattern.lstrip("!").replace("[", "[[]")):
            if is_negated:
                return False
            found = True
    return found


def _matches_hash(pattern: str, name: str) -> bool:
    parts = pattern.split("|")
    if len(parts) != 4 or parts[1] != "1":  # the only kind there is: HMAC-SHA1
        return False
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def _is_key(blob: str) -> bool:
    try:
        return base64.b64decode(blob, validate=True)[:3] == b"\0\0\0"  # begins with the length of its type
    except ValueError:
        return False
