"""What nodes run: the tilefleet that runs here, as one wheel.

The rule: the same sources give the same wheel, byte for byte, and its version names its contents: ``0.1.0+3f9c2e71``. Packed
from a checkout or from an installed wheel alike, without a network or a build tool; a node that was set up packs what it runs.
"""

from __future__ import annotations

import base64
import email
import hashlib
import io
import os
import re
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from coordinator.fleet.files import cache_dir
from coordinator.fleet.setup.materials import Release
from tilefleet.errors import BadConfig, NotAllowed
from tilefleet.version import __version__

__all__ = ["Release", "bundled", "contents", "pack", "packed", "requires"]
KEPT = 10  # wheels of a megabyte in the cache
_ROOT = Path(__file__).resolve().parents[3]  # a checkout, or site-packages
_PACKAGES = ("tilefleet", "coordinator", "workerd")
_VERSION_MODULE = "tilefleet/version.py"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first day a zip file knows
_MODE = 0o100644 << 16
# Headers of METADATA that are written anew, or not of interest on a node.
_LEFT_OUT = ("Version", "Requires-Dist", "Description", "Description-Content-Type")


def pack() -> Release:
    """The tilefleet that runs here, packed into the cache; some milliseconds. Raises NotAllowed, BadConfig."""
    return packed(contents())


def packed(contents: dict[str, bytes]) -> Release:
    """A wheel of these contents, whose version names them. Raises NotAllowed."""
    base = __version__.partition("+")[0]
    version = f"{base}+{_digest(contents, base)[:8]}"
    archive = _wheel(contents, version)
    wheel = cache_dir() / "releases" / f"tilefleet-{version}-py3-none-any.whl"
    _keep(wheel, archive)
    return Release(version, wheel, hashlib.sha256(archive).hexdigest())


def bundled(name: str) -> Path:
    """A file or directory that the wheel carries beside the code: ``systemd``, ``constraints.txt``."""
    packed = Path(__file__).parents[1] / name
    return packed if packed.exists() else _ROOT / name


def contents() -> dict[str, bytes]:
    """Everything that goes into the wheel by its path there, but for what carries the version."""
    try:
        own = distribution("tilefleet")
    except PackageNotFoundError:
        raise BadConfig(
            f"tilefleet in {_ROOT} is not installed, so that its dependencies are unknown: pip install -e ."
        ) from None
    packages = {f"{package}/{name}": data for package in _PACKAGES for name, data in _files(_ROOT / package)}
    for source, target in _bundled_by_checkout().items():
        packages |= {f"{target}/{name}".rstrip("/"): data for name, data in _files(_ROOT / source)}
    return packages | {f"*.dist-info/{name}": data for name, data in _about(own).items()}


def _files(top: Path) -> Iterator[tuple[str, bytes]]:
    """(path below top, contents) of what belongs to a package; of top itself when it is a file."""
    if top.is_file():
        yield "", top.read_bytes()
        return
    for path in sorted(top.rglob("*")):
        parts = path.relative_to(top).parts
        if path.is_file() and not any(_is_litter(part) for part in parts):
            yield "/".join(parts), path.read_bytes()


def _is_litter(name: str) -> bool:
    """What editors and interpreters leave behind."""
    return name == "__pycache__" or name.startswith(".") or name.endswith(("~", ".pyc"))


def requires() -> list[str]:
    """What tilefleet depends on, normalised: of a checkout what it says now, not what it said when it was installed."""
    if project := _project():
        optional: dict[str, list[str]] = project["project"]["optional-dependencies"]
        extras = [f"{line}; extra == '{extra}'" for extra, lines in optional.items() for line in lines]
        lines = [*project["project"]["dependencies"], *extras]
    else:
        lines = distribution("tilefleet").requires or []
    return sorted(str(Requirement(line)) for line in lines)


def _project() -> dict[str, Any]:
    """The pyproject.toml of a checkout; empty when this is an installed wheel."""
    path = _ROOT / "pyproject.toml"
    if not (_ROOT / "systemd").is_dir() or not path.is_file():
        return {}
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _bundled_by_checkout() -> dict[str, str]:
    """What pyproject.toml adds to the wheel, by its path in the checkout."""
    project = _project()
    return dict(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]) if project else {}


def _about(own: Distribution) -> dict[str, bytes]:
    """METADATA without version and long description, entry points, licence: the same from a checkout and from a wheel."""
    metadata = email.message_from_string(own.read_text("METADATA") or "")
    fields = sorted(metadata.items(), key=lambda item: (item[0] != "Metadata-Version", item[0]))  # stable: the rest as it is
    headers = [f"{name}: {value}" for name, value in fields if name not in _LEFT_OUT]
    headers += [f"Requires-Dist: {line}" for line in requires()]
    about = {"METADATA": "\n".join(headers).encode(), "entry_points.txt": (own.read_text("entry_points.txt") or "").encode()}
    if licence := own.read_text("licenses/LICENSE"):
        about["licenses/LICENSE"] = licence.encode()
    return about


def _digest(contents: dict[str, bytes], base: str) -> str:
    """Of all that is in the wheel, whatever version it says."""
    digest = hashlib.sha256()
    for name, data in sorted(_stamped(contents, base).items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _stamped(contents: dict[str, bytes], version: str) -> dict[str, bytes]:
    """The contents with a version written where the version belongs."""
    stated = re.sub(rb'(?m)^__version__ = ".*"$', f'__version__ = "{version}"'.encode(), contents[_VERSION_MODULE])
    metadata = contents["*.dist-info/METADATA"] + f"\nVersion: {version}\n".encode()
    return contents | {_VERSION_MODULE: stated, "*.dist-info/METADATA": metadata}


def _wheel(contents: dict[str, bytes], version: str) -> bytes:
    about = f"tilefleet-{version}.dist-info"
    files = {name.replace("*.dist-info", about): data for name, data in sorted(_stamped(contents, version).items())}
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tilefleet\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = f"{about}/RECORD"
    lines = [f"{name},sha256={_urlsafe(data)},{len(data)}" for name, data in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # stored: versions of zlib do not compress alike
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = _MODE
            entry.create_system = 3  # Unix, also when packed elsewhere
            archive.writestr(entry, data)
    return buffer.getvalue()


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _keep(path: Path, data: bytes) -> None:
    """Write it atomically, unless it is there; others may be packing the same at this moment."""
    try:
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        os.replace(file.name, path)  # noqa: PTH105 - a name, not a Path, is what tempfile gives
        for old in sorted(path.parent.glob("*.whl"), key=lambda wheel: wheel.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise NotAllowed(
            f"the release cannot be kept in {path.parent}: {error.strerror or error}; name another directory with TILEFLEET_STATE"
        ) from error
