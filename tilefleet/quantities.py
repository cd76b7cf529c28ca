"""Quantities with units, as people write them in configs and read them in reports."""

from __future__ import annotations

import re
from typing import ClassVar

from tilefleet.errors import BadInput

_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*\Z")


def parse_bytes(text: str) -> int:
    """``"600 MiB"`` → 629145600. Raises BadInput for anything that is not a size."""
    match = _QUANTITY.match(text)
    if match is None or match[2].lower() not in _BYTES:
        raise BadInput(f"{text!r} is not a size; write a number and a unit such as 600 MiB or 2 GB")
    return int(float(match[1]) * _BYTES[match[2].lower()])


def parse_seconds(text: str) -> float:
    """``"10m"`` → 600.0. Raises BadInput for anything that is not a duration."""
    match = _QUANTITY.match(text)
    if match is None or match[2].lower() not in _SECONDS:
        raise BadInput(f"{text!r} is not a duration; write a number and a unit such as 500 ms, 30 s, 10 m, 2 h or 7 d")
    return float(match[1]) * _SECONDS[match[2].lower()]


class Size(str):
    """A size in a config file, such as ``"600 MiB"``."""

    example: ClassVar[str] = '"600 MiB"'

    @property
    def bytes(self) -> int:
        return parse_bytes(self)


class Duration(str):
    """A duration in a config file, such as ``"30 s"``."""

    example: ClassVar[str] = '"30 s"'

    @property
    def s(self) -> float:
        return parse_seconds(self)


def format_bytes(n_bytes: float) -> str:
    """1288490188 → ``"1.2 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(abs(n_bytes), 0 if unit == "B" else 1) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """0.0123 → ``"12 ms"``, 75 → ``"1 m 15 s"``, 604800 → ``"7 d"``."""
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    parts = [f"{count} {unit}" for count, unit in
             ((whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
             if count]  # fmt: skip
    return " ".join(parts[:2])
