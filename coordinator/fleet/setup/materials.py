"""What a node is set up from, as facts about files of this machine."""

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


class Wheelhouse(NamedTuple):
    """The dependencies of a release for one Python and architecture."""

    digest: str
    requirements: str
    """``name==version --hash=sha256:…`` by line: what pip on the node installs, and nothing else."""
    archive: Path | None
    """Uncompressed tar of the wheels and of the requirements; None when nodes fetch them from the package index."""
    pip: str
    """File name of the wheel of the pip that installs them: a node's own may be absent or old."""
    uploads: tuple[Path, ...]
    """What the node gets from here: the archive, or that pip alone."""


class Interpreter(NamedTuple):
    """A Python that needs nothing of the node but glibc: an archive of python-build-standalone."""

    version: str
    """``3.12.15``."""
    archive: Path
    digest: str
    """SHA-256 of the archive."""

    @property
    def minor(self) -> str:
        """``3.12``."""
        return ".".join(self.version.split(".")[:2])
