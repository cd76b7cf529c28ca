"""What nodes run: the tilefleet that runs here, as one wheel.

The rule: the same sources give the same wheel, byte for byte, and its version names its contents: ``0.1.0+3f9c2e71``. Packed
from a checkout or from an installed wheel alike, without a network or a build tool; a node that was set up packs what it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Release(NamedTuple):
    """A packed tilefleet."""

    version: str
    """Such as ``0.1.0+3f9c2e71``: also what its workers say in their hello, and the name of its directory on a node."""
    wheel: Path
    digest: str
    """SHA-256 of the wheel, in hexadecimal."""


def pack() -> Release:
    """The tilefleet that runs here, packed into the cache; a few milliseconds when it is there already. Raises NotAllowed."""
    raise NotImplementedError
