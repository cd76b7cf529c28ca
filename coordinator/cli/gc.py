"""``tilefleet gc``: what operations left behind in the store.

The rule: it is shown before it goes, and nothing goes that an operation that is open, or a result that is kept, may need.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.asking import YesOption, agree
from coordinator.cli.door import command
from coordinator.cli.render import age_text, count_text, table
from coordinator.cli.session import Session, run
from tilefleet.quantities import format_bytes, format_seconds, parse_seconds

if TYPE_CHECKING:
    from coordinator.runtime.leftovers import Leftover

OlderOption = Annotated[
    str, typer.Option("--older", metavar="DURATION", help="Only what nothing was added to for so long; an upload may take hours.")
]


@command(
    "gc", under="Operations",
    examples=(
        ("tilefleet gc", "show what is of no use any more, ask, remove it"),
        ("tilefleet gc --older 7d --yes", "from a timer, without being asked"),
    ),
)  # fmt: skip
def gc(session: Session, older: OlderOption = "1d", yes: YesOption = False) -> None:
    """Remove what operations left in the store: operands brought for one that was never submitted, and what ended ones left.

    A coordinator cleans up after each operation by itself; something is left only when processes died at a bad moment. Results,
    records and what open operations use stay."""
    run(_gc(session, parse_seconds(older), is_agreed=yes))


async def _gc(session: Session, older_s: float, *, is_agreed: bool) -> None:
    from coordinator.runtime.leftovers import remove, survey

    async with session.client() as client:
        store, stores = client.session.store, client.session.stores
        found = await survey(store, time.time(), older_s)
        if not found:
            session.show(f"nothing that is older than {format_seconds(older_s)} is left behind", {"removed": []})
            return
        session.remark(listing(found, time.time()))
        n_objects, n_bytes = sum(one.n_objects for one in found), sum(one.size_bytes for one in found)
        what = f"{count_text(n_objects, 'object')}, {format_bytes(n_bytes)}"
        agree(session, f"Remove {what}? [yes/no]", is_agreed=is_agreed)
        for one in found:
            await remove(store, stores, one)
        session.show(f"removed {what}", {"removed": [one._asdict() for one in found]})


def listing(found: list[Leftover], now_s: float) -> str:
    """For people."""
    rows = []
    for one in found:
        size, age = format_bytes(one.size_bytes), age_text(one.newest_at, now_s)
        rows.append((one.operation, count_text(one.n_objects, "object"), size, age, one.why))
    return table(rows, right=(1, 2, 3))
