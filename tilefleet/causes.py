"""What on this machine keeps a service from being reached, where libraries say only that it was not: names and descriptors."""

from __future__ import annotations

import os

DESCRIPTORS = "no file descriptor is left in this process: raise LimitNOFILE of its unit, or 'ulimit -n'"
NAMES = "its name does not resolve: check the DNS of this machine"

_SAID = {
    "too many open files": DESCRIPTORS, "toomanyopenfiles": DESCRIPTORS, "no file descriptors available": DESCRIPTORS,
    "dns error": NAMES, "gaierror": NAMES,
}  # fmt: skip


def local(error: BaseException) -> str:
    """The way out for what lies beneath an error of aiohttp, botocore or obstore; empty for a cause that is not ours."""
    text = "\n".join(f"{type(one).__name__} {one}" for one in _chain(error)).lower()
    way_out = next((way_out for sign, way_out in _SAID.items() if sign in text), "")
    return DESCRIPTORS if way_out == NAMES and not _has_descriptor() else way_out


def _has_descriptor() -> bool:
    """A resolver that may open nothing finds no name either, and does not say why."""
    try:
        os.close(os.dup(2))
    except OSError:
        return False
    return True


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
