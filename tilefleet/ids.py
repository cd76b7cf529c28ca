"""Identifiers that are safe to print, short to type, and say nothing about their order.

Crockford's base 32 has no ``l``, so no id ever starts with the word "last" (https://www.crockford.com/base32.html).
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
OPERATION_ID_LENGTH = 12  # 60 random bits: a million operations collide with probability 4e-7
_OPERATION_ID = re.compile(rf"[{ALPHABET}]{{{OPERATION_ID_LENGTH}}}\Z")

# What messages and records carry becomes part of keys, paths and lines for people: nothing else is let in.
OperationId = Annotated[str, msgspec.Meta(pattern=rf"^[{ALPHABET}]{{{OPERATION_ID_LENGTH}}}\Z")]
StageName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]{1,40}\Z")]
FleetName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}\Z")]
WorkerName = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,255}\Z")]  # a host's name has up to 253 characters
Incarnation = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,40}\Z")]


def encode(random_bytes: bytes, length: int) -> str:
    """``length`` characters of ``ALPHABET`` from the low 5 bits of each of ``length`` random bytes."""
    if len(random_bytes) < length:
        raise ValueError(f"an id takes {length} random bytes, got {len(random_bytes)}")
    return "".join(ALPHABET[byte & 31] for byte in random_bytes[:length])


def is_operation_id(text: str) -> bool:
    """True for a whole operation id."""
    return _OPERATION_ID.match(text) is not None


def is_prefix(text: str) -> bool:
    """True for what may be the beginning of an operation id."""
    return 0 < len(text) <= OPERATION_ID_LENGTH and all(character in ALPHABET for character in text)
