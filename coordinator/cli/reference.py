"""Writes docs/reference/cli.md from the commands themselves: ``python -m coordinator.cli.reference > docs/reference/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from coordinator.cli.door import app
from coordinator.cli.families import declare
from coordinator.cli.help import EVERYWHERE, EXIT_CODES, as_markdown, describe, ordered

_INTRODUCTION = """\
# The `tilefleet` command

Made from the commands' own help by `python -m coordinator.cli.reference`; do not edit.

Results go to standard output, progress and errors to standard error. On a pipe, and where `NO_COLOR` is set or `TERM` is
`dumb`, there are no bars and no colours; `--progress full` then prints a plain line whenever an operation comes to
something new. An error is one sentence, `tilefleet: …`; with `--json` it is `{"error": {"code": …, "sentence": …}}` on
standard error. An operation id may be shortened as long as it is unambiguous; `last` is the newest operation you submitted
from this machine. `tilefleet --install-completion` teaches your shell the commands, files and ids.
"""

_JSON = """\
## JSON

`--json` prints one document; `watch --json` one per line. Keys are only ever added. Times of day are seconds since 1970
(UTC), durations are seconds (`_s`), sizes bytes (`_bytes`); what is not known is `null`.

An operation (`multiply`, `add`, …, `show`, `watch`, `cancel`, and each of `list`'s `operations`) has the keys
`id`, `kind`, `state` (`submitted`, `queued`, `running`, `done`, `failed`, `cancelled`), `what`, `operands` (by name: a matrix
and `is_transposed`), `alpha`, `beta`, `out`, `command`, `submitted_at`, `submitted_by`, `finished_at`, `expires_at`, `result`
(a matrix), `jobs_done`, `jobs_total`, `stages`, `phases_s`, `numpy_s` (with `--compare numpy`), `totals`, `predicted_s`,
`remaining_s`, `workers`, `wrong_results`, `note`, `verdict`, `error` (`code`, `sentence`).

A matrix (`info`) has `url`, `format`, `shape`, `dtype`, `tile`, `layout`, `is_ours`, `size_bytes`, `is_gzip`,
`is_fortran_order`, `is_big_endian`. With `--no-wait` the document is `{"id": …}`.

A fleet (`fleet status`; one a line with `--watch`) has `fleet`, `is_made`, `at`, `nodes_up`, `nodes` (each with `name`, `state`
(`up`, `starting`, `setting up`, `silent`, `unknown`, `failed`, `leaving`, `stopping`, `off`, `lost`, `not set up`), `sentence`,
`role`, `machine`, `address`, `kind`, `market`, `zone`, `version`, `held`, `operations`, `heard_ago_s`, `age_s`,
`usd_per_hour`), `coordinator` (`state`: `leads`, `silent`, `resigned`, `none`; `leader`, `version`, `epoch`, `since`, `n_open`,
`here_pid`), `queues` (by name: `waiting`, `in_flight`, `dead`), `store` (`url`, `objects`, `size_bytes`, `is_all`), `spent_usd`,
`usd_per_hour`, `troubles`. `fleet up`, `sync` and `start` print `fleet`, `nodes_wanted`, `is_converged`, `ready`, `failures`,
`refused`, `rolled_back`, `elapsed_s`, `phases_s` (by node and phase), `coordinator`; `fleet down` prints `removed`, `hosts`,
`left`, `missed`.
"""


def text() -> str:
    """The whole page."""
    declare()
    command = typer.main.get_command(app)
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES)
    everywhere = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in EVERYWHERE.items())
    parts = [
        _INTRODUCTION,
        f"## Options of every command\n\n| Option | |\n|---|---|\n{everywhere}\n",
        f"## Exit codes\n\n| Code | |\n|---|---|\n{codes}\n",
        _JSON,
        *_sections(command, "tilefleet"),
    ]
    return "\n".join(parts)


def _sections(command: Any, path: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name, inner in ordered(command):
            if not inner.hidden:
                yield from _sections(inner, f"{path} {name}")
    else:
        found = describe(command, path)
        yield as_markdown(found)


if __name__ == "__main__":
    sys.stdout.write(text())
