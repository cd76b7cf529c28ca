"""Public host keys as an instance shows them: in its object in the store, or on its console. Pure."""

from __future__ import annotations

import re

_BEGIN = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----")
_END = re.compile(r"-----END SSH HOST KEY KEYS-----")
_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]{40,}={0,3})(?=\s|$)")


def keys_in_object(text: str) -> tuple[str, ...]:
    """Kind and key of each line; what is not one is left out."""
    found = (_KEY.match(line) for line in text.splitlines())
    return tuple(f"{key[1]} {key[2]}" for key in found if key)


def keys_on_console(text: str) -> tuple[str, ...]:
    """The keys between the newest pair of marks that cloud-init writes around them; () while there is no whole block.

    Lines have prefixes there (``[   17.1] cloud-init[891]: ssh-ed25519 …``), and the console may begin in the middle.
    """
    ends = [match.start() for match in _END.finditer(text)]
    if not ends:
        return ()
    begins = [match.end() for match in _BEGIN.finditer(text, 0, ends[-1])]
    if not begins:
        return ()
    return tuple(f"{key[1]} {key[2]}" for key in _KEY.finditer(text, begins[-1], ends[-1]))
