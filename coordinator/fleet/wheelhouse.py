"""Everything tilefleet needs on a node beside itself: the same versions everywhere, each checked by its SHA-256.

The rule: what is asked decides the digest, the digest names the file in the cache, and nothing is taken without its hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from coordinator.fleet.release import Release


class Wheelhouse(NamedTuple):
    """The dependencies of a release for one Python and architecture."""

    digest: str
    requirements: str
    """``name==version --hash=sha256:…`` by line: what pip on the node installs, and nothing else."""
    archive: Path | None
    """Uncompressed tar of the wheels; None when nodes fetch them from the package index."""


class Artefacts:
    """What the nodes of a fleet are set up from; shared by all of them, so that each thing is built once."""

    def __init__(self, release: Release, *, is_uploaded: bool = True) -> None:
        self.release = release
        self._is_uploaded = is_uploaded

    async def wheelhouse(self, python: str, architecture: str) -> Wheelhouse:
        """For ``3.11`` and ``x86_64`` or ``aarch64``. Raises Unreachable, NotFound."""
        raise NotImplementedError
