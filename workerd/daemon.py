"""workerd: ``workerd --config F``. The composition root, what the command line and the configuration say.

Nothing heavy is imported at the top: OpenBLAS reads its thread count when NumPy is loaded, and a mistake in the
configuration should be said at once.

Exit statuses: 0 drained; 10 bad config; 5 not allowed; 7 store or queues unreachable at start; 70 parent gone; 75 left with
work given back, or at once on the second signal; 1 a bug.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from tilefleet import logs
from tilefleet.account import resolved
from tilefleet.config import Config, WorkerSection, load
from tilefleet.errors import BadConfig, BadInput, TilefleetError
from tilefleet.ids import WorkerName
from tilefleet.parent import watch_parent
from tilefleet.quantities import Size, parse_bytes
from tilefleet.version import __version__

START_TIMEOUT_S = 60.0  # the coordinator makes the queues, and may be starting at the same time


def main() -> None:
    """Run the daemon; does not return."""
    watch_parent()
    options = _parser().parse_args()
    try:
        config = configured(options)
        from workerd import startup

        status = asyncio.run(startup.run(config, lambda: configured(options), options.start_timeout))
    except TilefleetError as error:
        print(f"workerd: {error}", file=sys.stderr)  # noqa: T201 - for the person who starts it
        status = error.exit_code
    _leave(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="workerd", description="Computes jobs of a tilefleet until it is told to stop.")
    parser.add_argument("--config", default=os.environ.get("TILEFLEET_CONFIG"), help="TOML file (default: TILEFLEET_CONFIG)")
    parser.add_argument("--name", help="unique in the fleet; overrides worker.name")
    parser.add_argument("--memory", help='such as "600 MiB"; overrides worker.memory')
    parser.add_argument("--cores", type=int, help="BLAS threads; overrides worker.cores")
    parser.add_argument(
        "--start-timeout", type=float, default=START_TIMEOUT_S, metavar="S", help="how long to wait for queues and store (60)"
    )
    parser.add_argument("--version", action="version", version=f"workerd {__version__}")
    return parser


def configured(options: argparse.Namespace) -> Config:
    """The configuration file with the command line's word on top. Raises BadConfig."""
    if not options.config:
        raise BadConfig("workerd needs a configuration: name it with --config FILE or TILEFLEET_CONFIG")
    config = load(Path(options.config))
    if not config.store.url:
        raise BadConfig(f"{options.config}: store.url is required for workerd; write s3://bucket/prefix or file:///directory")
    return msgspec.structs.replace(resolved(config), worker=_overridden(config.worker, options))


def _overridden(section: WorkerSection, options: argparse.Namespace) -> WorkerSection:
    changes: dict[str, object] = {}
    if options.name:
        changes["name"] = _name(options.name)
    if options.memory:
        changes["memory"] = _size(options.memory)
    if options.cores is not None:
        if options.cores < 1:
            raise BadConfig(f"--cores must be 1 or more; got {options.cores}")
        changes["cores"] = options.cores
    return msgspec.structs.replace(section, **changes)


def _name(text: str) -> str:
    try:
        return msgspec.convert(text, WorkerName)
    except msgspec.ValidationError:
        raise BadConfig(f"--name: {text!r} must be at most 255 letters, digits and signs, without blanks") from None


def _size(text: str) -> Size:
    try:
        parse_bytes(text)
    except BadInput as error:
        raise BadConfig(f"--memory: {error}") from error
    return Size(text)


def _leave(status: int) -> NoReturn:
    """Without the interpreter's finalisation: obstore's threads may still wake a loop that is gone, and abort."""
    logs.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
