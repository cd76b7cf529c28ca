"""Waiting for processes that a script on a "node" of this machine started: they write their number into a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 60.0


async def until(is_so: Callable[[], bool]) -> None:
    """Looks again and again, up to a minute."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


async def written(path: Path) -> None:
    await until(lambda: path.exists() and path.read_text(encoding="utf-8").endswith("\n"))


async def gone(path: Path) -> None:
    """Until the process that wrote its number there is no more."""
    await written(path)
    await until(lambda: not _runs(path.read_text(encoding="utf-8").strip()))


def _runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
