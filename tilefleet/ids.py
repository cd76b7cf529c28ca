"""Identifiers that are safe to print, short to type, and say nothing about their order.

Crockford's base 32 has no ``l``, so no id ever starts with the word "last" (https://www.crockford.com/base32.html).
"""

from __future__ import annotations

import re

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
OPERATION_ID_LENGTH = 12  # 60 random bits: a million operations collide with probability 4e-7
_OPERATION_ID = re.compile(rf"[{ALPHABET}]{{{OPERATION_ID_LENGTH}}}\Z")


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
