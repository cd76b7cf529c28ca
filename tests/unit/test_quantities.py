"""Quantities: read as people write them, written as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet.errors import BadInput
from tilefleet.quantities import format_bytes, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("600 MiB", 629145600), ("2 GB", 2 * 10**9), ("2gib", 2**31), ("0", 0), (" 1.5 KiB ", 1536), ("10b", 10), ("1TB", 10**12)],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("500 ms", 0.5), ("30 s", 30), ("10m", 600), ("2 h", 7200), ("7 d", 604800), ("1.5 s", 1.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "x", "-1 s", "1 parsec", "1 2 s", "1e3 s", "∞", "1,5 s", "s", "5 s\n6", "٣ s", "30", "9" * 400]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="is not a duration; write a number and a unit such as 500 ms"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["", "x", "-1 MB", "1 parsec", "1 2 MB", "1e3", "∞", "MB", "5 MB\n6", "9" * 400])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="is not a size; write a number and a unit such as 600 MiB"):
        parse_bytes(text)


@given(st.integers(0, 2**53))
def test_whole_bytes_are_exact(n_bytes: int) -> None:
    assert parse_bytes(str(n_bytes)) == parse_bytes(f"{n_bytes} B") == n_bytes


@given(st.integers(0, 2**60))
def test_a_written_size_reads_back_to_its_precision(n_bytes: int) -> None:
    assert parse_bytes(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=0.051)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1288490188, "1.2 GiB"),
        (2**50, "1024.0 TiB"),
        (1023.9, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
    ],
)
def test_written_sizes(n_bytes: float, text: str) -> None:
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.0123, "12 ms"), (0.9996, "1.0 s"), (1, "1.0 s"), (59.94, "59.9 s"), (59.99, "1 m"),
        (60, "1 m"), (75, "1 m 15 s"),
        (3600, "1 h"), (3661, "1 h 1 m"), (3605, "1 h 5 s"), (86400, "1 d"), (604800, "7 d"), (90000, "1 d 1 h"),
        (86460, "1 d 1 m"),
    ],
)  # fmt: skip
def test_written_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
