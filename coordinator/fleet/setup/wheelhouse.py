"""Everything tilefleet needs on a node beside itself: the same versions everywhere, each checked by its SHA-256.

The rule: what is asked decides the digest, the digest names the file in the cache, and nothing is taken without its hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from coordinator.fleet.files import cache_dir
from coordinator.fleet.setup import interpreter, pip
from coordinator.fleet.setup.materials import Interpreter, Release, Wheelhouse
from coordinator.fleet.setup.release import bundled, requires
from coordinator.fleet.setup.requirements import Architecture, Needed, Target, below, pinned, pins
from tilefleet.errors import NotAllowed, TilefleetError

REFUSED_S = 300.0  # an interpreter that could not be had is not asked for again: each try may wait half a minute
KEPT = 4  # archives of 130 MB in the cache: two releases for two kinds of nodes


class Artefacts:
    """What the nodes of a fleet are set up from; shared by all of them, so that each thing is built once."""

    def __init__(
        self, release: Release, *, is_uploaded: bool = True, interpreters: Mapping[str, interpreter.Source] = interpreter.SOURCES
    ) -> None:
        self.release = release
        self._is_uploaded = is_uploaded
        self._interpreters = interpreters
        self._interpreter_lock = asyncio.Lock()
        self._refused: dict[str, tuple[float, TilefleetError]] = {}
        self._locks: dict[Target, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._built: dict[Target, Wheelhouse] = {}

    async def wheelhouse(self, python: str, architecture: str) -> Wheelhouse:
        """For ``3.11`` and ``x86_64`` or ``aarch64``. Raises Unreachable, NotFound, NotAllowed."""
        target = Target(python, cast("Architecture", architecture))
        async with self._locks[target]:
            if target not in self._built:
                self._built[target] = await asyncio.to_thread(wheelhouse, target, is_uploaded=self._is_uploaded)
        return self._built[target]

    async def interpreter(self, architecture: str) -> Interpreter:
        """A Python to bring along. Raises Unreachable, NotFound, NotAllowed; for a while at once, as a hundred nodes ask."""
        async with self._interpreter_lock:
            failed_at, error = self._refused.get(architecture, (0.0, None))
            if error is not None and time.monotonic() - failed_at < REFUSED_S:
                raise error
            try:
                return await asyncio.to_thread(interpreter.fetch, self._interpreters[architecture])
            except TilefleetError as error:
                self._refused[architecture] = (time.monotonic(), error)
                raise


def wheelhouse(target: Target, *, is_uploaded: bool = True) -> Wheelhouse:
    """From the cache where it was built before; else a minute of downloading. Raises Unreachable, NotFound, NotAllowed."""
    known = pins(bundled("constraints.txt").read_text(encoding="utf-8"), target)
    roots = requires()
    asked = hashlib.sha256(repr((target, sorted(known.items()), roots)).encode()).hexdigest()[:16]
    directory = cache_dir() / "wheelhouses"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        listed = directory / f"{asked}.txt"
        requirements = listed.read_text(encoding="utf-8") if listed.is_file() else requirements_of(target, roots, known)
        _write(listed, requirements.encode())
        digest = hashlib.sha256(requirements.encode()).hexdigest()
        archive = directory / f"wheelhouse-{digest[:16]}.tar" if is_uploaded else None
        if archive is not None and not archive.is_file():
            _fetch(requirements, target, archive)
        own_pip = f"pip-{known['pip']}-py3-none-any.whl"
        uploads = (archive,) if archive else (_pip_wheel(requirements, target, directory / own_pip),)
        _forget_old(directory, [listed, *uploads])
    except OSError as error:
        raise NotAllowed(
            f"what nodes are set up from cannot be kept in {directory}: {error.strerror or error}; "
            "name another directory with TILEFLEET_STATE"
        ) from error
    return Wheelhouse(digest, requirements, archive, own_pip, uploads)


def requirements_of(target: Target, roots: Sequence[str], known: dict[str, str]) -> str:
    """Requirements with hashes: round by round, what the packages of the last round need."""
    wheels: dict[str, pip.Wheel] = {}
    done: set[Needed] = set()
    new = set(below(Needed("tilefleet"), roots, target))
    while new:
        names = sorted({package.name for package in new} - wheels.keys())
        if names:
            found = pip.resolved([pinned(name, known) for name in names], target)
            wheels |= dict(zip(names, sorted(found, key=lambda wheel: names.index(_canonical(wheel.name))), strict=True))
        done |= new
        new = {each for package in new for each in below(package, wheels[package.name].requires, target)} - done
    return "".join(f"{name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for name, wheel in sorted(wheels.items()))


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _fetch(requirements: str, target: Target, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as directory:
        wheels = pip.download(requirements, target, Path(directory))
        partial = Path(directory) / "archive.tar"
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
            _add(tar, "requirements.txt", len(requirements.encode()), io.BytesIO(requirements.encode()))
            for wheel in wheels:
                with wheel.open("rb") as contents:
                    _add(tar, wheel.name, wheel.stat().st_size, contents)
        partial.replace(archive)


def _pip_wheel(requirements: str, target: Target, wheel: Path) -> Path:
    """The pip that installs the others, for nodes that get nothing else from here."""
    if not wheel.is_file():
        own = "".join(line for line in requirements.splitlines(keepends=True) if line.startswith("pip=="))
        with tempfile.TemporaryDirectory(dir=wheel.parent) as directory:
            pip.download(own, target, Path(directory))[0].replace(wheel)
    return wheel


def _add(tar: tarfile.TarFile, name: str, size: int, contents: object) -> None:
    entry = tarfile.TarInfo(name)  # root's, of 1970, mode 0644: the same bytes from the same wheels
    entry.size = size
    tar.addfile(entry, contents)  # type: ignore[arg-type]


def _write(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.replace(file.name, path)  # noqa: PTH105 - a name, not a Path, is what tempfile gives


def _forget_old(directory: Path, used: Sequence[Path]) -> None:
    """Only the newest stay; what is used now counts as new."""
    for path in used:
        path.touch()
    for pattern in ("*.tar", "*.txt", "*.whl"):
        for path in sorted(directory.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
            path.unlink(missing_ok=True)
