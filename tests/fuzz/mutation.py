"""Inputs that are nearly right: good ones, cut, spliced, repeated, and with what parsers dislike put in. The same for a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

TOKENS = (
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"-1", b"1e-400", b"0.1", b"9" * 400, b"9223372036854775808",
    b"18446744073709551616", b"1000000000000000", b'""', b'"\\ud800"', b"\xff\xfe", b"\x00", b"\xe2\x80\xae", b"\x1b]0;x\x07",
    b"../", b"/etc/passwd", b"file:///", b"s3://", b"%2e%2e/", b"$(id)", b"`id`", b"\r\n", b"{", b"}", b"[" * 500, b"]" * 500,
    b",", b":", b'"', b"'", b"\\", b"#", b"=", b"[[", b"(" * 200, b"1_0", b"\xd9\xa1", b"j", b"e", b".",
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
MOST_BYTES = 1 << 16


def mutated(draw: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One input."""
    if draw.random() < 0.02:
        return draw.randbytes(draw.randrange(64))
    data = draw.choice(seeds)
    for _ in range(draw.randrange(1, 7)):
        data = draw.choice(_WAYS)(draw, data, seeds)[:MOST_BYTES]
    return data


def _turn_a_bit(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _cut(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    first, last = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[last:]


def _end(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _repeat(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    first, last = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:last] + data[first:last] * draw.choice((1, 2, 50)) + data[last:]


def _put_in(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice(TOKENS) + data[at + draw.choice((0, 0, 1, 4)) :]


def _change_a_number(draw: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(NUMBER.finditer(data))
    if not found:
        return data
    number = draw.choice(found)
    return data[: number.start()] + draw.choice(TOKENS[:13]) + data[number.end() :]


def _splice(draw: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = draw.choice(seeds)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


_WAYS: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _turn_a_bit, _cut, _end, _repeat, _put_in, _put_in, _change_a_number, _change_a_number, _splice,
)  # fmt: skip
