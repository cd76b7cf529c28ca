"""A Python for nodes that have none from 3.11 to 3.13: fetched here, checked by its SHA-256, brought along.

The rule: version and hash are stated here; who gives the bytes does not matter. The builds are those of python-build-standalone,
which need nothing but glibc 2.17; https://docs.astral.sh/uv/concepts/python-versions/ is about the same ones.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from coordinator.fleet.files import cache_dir
from coordinator.fleet.setup.materials import Interpreter
from tilefleet.errors import NotAllowed, NotFound, Unreachable

TIMEOUT_S = 30.0  # without a byte


class Source(NamedTuple):
    """Where the archive for an architecture comes from."""

    version: str
    url: str
    sha256: str


_RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"

SOURCES: Mapping[str, Source] = {
    "x86_64": Source(
        "3.12.15",
        f"{_RELEASES}/20261021/cpython-3.12.15%2B20261021-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz",
        "6d7521138fd33afddc1ccd08abb007d9a2829e38117c2576f9efdc0ec73ce772",
    ),
    "aarch64": Source(
        "3.12.15",
        f"{_RELEASES}/20261021/cpython-3.12.15%2B20261021-aarch64-unknown-linux-gnu-install_only_stripped.tar.gz",
        "b4567aa5a11f51b540c4dfd9e082ebf23e554f8ac17b85caa6cea23e83693394",
    ),
}


def fetch(source: Source) -> Interpreter:
    """From the cache, or from where the source says. Raises Unreachable, NotFound (other bytes), NotAllowed."""
    archive = cache_dir() / "interpreters" / f"python-{source.version}-{source.sha256[:16]}.tar.gz"
    try:
        if not archive.is_file():
            archive.parent.mkdir(parents=True, exist_ok=True)
            _download(source, archive)
    except OSError as error:
        raise NotAllowed(f"the Python for nodes cannot be kept in {archive.parent}: {error.strerror or error}") from error
    return Interpreter(source.version, archive, source.sha256)


def _download(source: Source, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        partial = Path(directory) / "archive"
        try:
            with urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as answer, partial.open("wb") as file:  # noqa: S310 - stated above
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise Unreachable(
                f"Python {source.version} for nodes could not be fetched from {source.url}: {getattr(error, 'reason', error)}"
            ) from error
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != source.sha256:
            raise NotFound(f"{source.url} is not Python {source.version}: its SHA-256 is {found}, not {source.sha256}")
        partial.replace(archive)
