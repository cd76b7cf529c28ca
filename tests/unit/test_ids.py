"""Ids: safe to print, short to type, never beginning with the word last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet import ids


@given(st.binary(min_size=ids.OPERATION_ID_LENGTH, max_size=20))
def test_random_bytes_make_an_operation_id(random_bytes: bytes) -> None:
    op = ids.encode(random_bytes, ids.OPERATION_ID_LENGTH)
    assert ids.is_operation_id(op)
    assert all(ids.is_prefix(op[:length]) for length in range(1, len(op) + 1))
    assert not op.startswith("l")


def test_every_character_is_used_evenly() -> None:
    text = "".join(ids.encode(bytes([byte]), 1) for byte in range(256))
    assert all(text.count(character) == 8 for character in ids.ALPHABET)
    assert len(ids.ALPHABET) == len(set(ids.ALPHABET)) == 32


@pytest.mark.parametrize(
    "text",
    ["", "last", "short", "3f9k2m7q0xy", "3f9k2m7q0xyzz", "3F9K2M7Q0XYZ", "3f9k2m7q0xyz\n", "../../../../", "3f9k2m7q0xyl"],
)
def test_what_is_no_operation_id(text: str) -> None:
    assert not ids.is_operation_id(text)


@pytest.mark.parametrize("text", ["", "last", "l", "A", "3f/", "..", "3f9k2m7q0xyzz", "é", "3f "])
def test_what_is_no_prefix(text: str) -> None:
    assert not ids.is_prefix(text)


def test_too_few_random_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="12 random bytes"):
        ids.encode(b"\0" * 11, 12)
