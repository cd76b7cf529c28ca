"""pip as a program: which wheels there are for another machine, and their contents.

The rule: pip runs with a deadline and says what went wrong in one sentence of ours; its own words are kept when they are not
about something that we know.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from coordinator.fleet.setup.requirements import Target
from tilefleet.errors import DoesNotFit, NotFound, TilefleetError, Unreachable

DEADLINE_S = 600.0  # 130 MB at 2 Mb/s
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2")
_NO_INDEX = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionError|Name or service not known|Temporary failure in name"
    r"|Connection (refused|reset|aborted)|Network is unreachable|nodename nor servname"
)


class Wheel(NamedTuple):
    """What the package index says about a wheel."""

    name: str
    version: str
    sha256: str
    requires: tuple[str, ...]


def resolved(pinned: Sequence[str], target: Target) -> list[Wheel]:
    """The wheels of some ``name==version`` for a target; their metadata is fetched, not they themselves.

    Raises Unreachable, NotFound.
    """
    with tempfile.TemporaryDirectory(prefix="tilefleet-") as directory:
        report = Path(directory) / "report.json"
        _run(
            "install", "--dry-run", "--ignore-installed", "--no-deps", f"--target={directory}/none", f"--report={report}",
            *_for(target), *pinned, target=target,
        )  # fmt: skip
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [
        Wheel(
            item["metadata"]["name"], item["metadata"]["version"], item["download_info"]["archive_info"]["hashes"]["sha256"],
            tuple(item["metadata"].get("requires_dist", ())),
        )
        for item in installs
    ]  # fmt: skip


def download(requirements: str, target: Target, directory: Path) -> list[Path]:
    """Fetch the wheels of a requirements text, each checked by the hash that stands there. Raises Unreachable, NotFound."""
    listed = directory / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    _run("download", "--no-deps", "--require-hashes", f"--dest={directory}", *_for(target), "-r", str(listed), target=target)
    listed.unlink()
    return sorted(directory.glob("*.whl"))


def _for(target: Target) -> list[str]:
    platforms = [f"--platform={platform}" for platform in target.platforms()]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={target.python}", *platforms]


def _run(*arguments: str, target: Target) -> None:
    try:
        done = subprocess.run([*_PIP, *arguments], check=False, capture_output=True, text=True, timeout=DEADLINE_S)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise Unreachable(f"pip did not fetch what nodes need within {DEADLINE_S:g} s; try again, it continues") from None
    if done.returncode != 0:
        raise _said(done.stderr, target)


def _said(stderr: str, target: Target) -> TilefleetError:
    """pip's last words as an error of ours."""
    lines = [line.partition("ERROR: ")[2] for line in stderr.splitlines() if line.startswith("ERROR: ")]
    if _NO_INDEX.search(stderr):
        return Unreachable("the package index cannot be reached from here, so there is nothing to set nodes up from: go online")
    if "No space left" in stderr:
        return DoesNotFit("the disk is full here: what nodes are set up from takes 300 MB; TILEFLEET_STATE names another place")
    for line in lines:
        if found := re.match(r"No matching distribution found for (\S+)", line):
            return NotFound(f"the package index has no wheel of {found[1]} for {target}")
    if any("HASHES" in line for line in lines):
        return NotFound(f"the package index gives another file than it announced: {' '.join(lines)[:400]}")
    return NotFound(f"pip could not fetch what nodes need: {' '.join(lines or stderr.splitlines()[-3:])[:400]}")
