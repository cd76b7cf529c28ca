"""``tilefleet``: the entry point, and how every command ends.

An error is one sentence on standard error, ``tilefleet: …``, and the exit code of its class (``help.EXIT_CODES``). With
``--json`` it is ``{"error": {"code": …, "sentence": …}}`` on standard error instead; mistakes in the command line itself
(exit code 2) stay text. No traceback without ``--debug``.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

import typer

from coordinator.cli.door import app
from coordinator.cli.families import declare, narrowed
from tilefleet.errors import ErrorInfo, TilefleetError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE


def main() -> None:
    """Console script."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # "×" on a terminal that has no such sign
    warnings.showwarning = _remark
    _leave(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    try:
        declare(arguments)
        narrowed(app, arguments)(list(arguments), prog_name="tilefleet")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except TilefleetError as error:
        _explain(error, arguments)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the last line of defence
        _explain(error, arguments)
        return TilefleetError.exit_code
    return 0


def _explain(error: Exception, arguments: Sequence[str]) -> None:
    info = ErrorInfo.of(error)
    is_debug = "--debug" in arguments
    if is_debug:
        traceback.print_exception(error)
    if "--json" in arguments:
        line = json.dumps({"error": {"code": info.code, "sentence": info.sentence}}, ensure_ascii=False)
    elif isinstance(error, TilefleetError) or is_debug:
        line = f"tilefleet: {info.sentence}"
    else:
        line = f"tilefleet: something went wrong inside tilefleet: {info.sentence}; run it again with --debug to see where"
    typer.echo(line, err=True)


def _remark(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: object = None, line: str | None = None
) -> None:
    """Warnings of ours are for the user, in a sentence; those of libraries are not."""
    del filename, lineno, file, line
    if category.__module__.startswith("tilefleet"):
        typer.echo(f"tilefleet: {message}", err=True)


def _leave(code: int) -> None:
    """End the process. obstore's threads may abort the interpreter while it shuts down, so it does not get the chance."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    if "obstore" in sys.modules or code == BROKEN_PIPE:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
