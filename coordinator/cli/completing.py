"""What the shell's TAB key offers. Reads the store at most, starts nothing, and never says a word about errors."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".npy", ".csv", ".csv.gz", ".zarr")


def formats(incomplete: str) -> list[str]:
    """Directories, and files of the formats tilefleet reads."""
    above, _, start = incomplete.rpartition("/")
    directory = Path(above or ("/" if incomplete.startswith("/") else "."))
    prefix = f"{above}/" if "/" in incomplete else ""
    if "://" in incomplete or not directory.is_dir():
        return []
    found = [path for path in sorted(directory.iterdir()) if path.name.startswith(start)]
    return [prefix + path.name + ("/" if _is_only_directory(path) else "") for path in found if _is_offered(path)]


def operation_ids(incomplete: str) -> list[tuple[str, str]]:
    """Operations of the deployment whose id begins so, with what they are."""
    try:
        return _operation_ids(incomplete)
    except Exception:  # noqa: BLE001  a completion has nowhere to complain
        return []


def _operation_ids(incomplete: str) -> list[tuple[str, str]]:
    from coordinator.cli.render import expression
    from coordinator.cli.session import Session, run

    async def look() -> list[tuple[str, str]]:
        async with Session().client() as client:
            listed = await client.operations()
        return [(record.id, f"{record.kind}: {expression(record)}") for record, _ in listed if record.id.startswith(incomplete)]

    offered = run(look())
    return [*offered, *([("last", "the newest one submitted from here")] if "last".startswith(incomplete) else [])]


def _is_offered(path: Path) -> bool:
    return path.is_dir() or path.name.endswith(SUFFIXES)


def _is_only_directory(path: Path) -> bool:
    return path.is_dir() and not path.name.endswith(".zarr")
