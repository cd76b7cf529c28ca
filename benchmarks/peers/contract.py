"""What a peer is: something that is made warm once, and then does steps. Only ``do`` is timed."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Step(NamedTuple):
    """One thing to do with matrices in stores: ``multiply``, ``add``, or what only some peers know."""

    kind: str
    a: str
    b: str
    out: str
    more: dict[str, Any] = {}  # noqa: RUF012 - never changed; steps travel as JSON


class Told(NamedTuple):
    """What a peer tells beside the time that its host took: times of parts, and facts."""

    parts_s: dict[str, float] = {}  # noqa: RUF012 - never changed
    facts: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Peer(Protocol):
    """``warm`` does everything that a user does once; ``do`` what is measured."""

    def warm(self) -> None: ...

    def do(self, step: Step) -> Told: ...

    def processes(self) -> list[int]:
        """Whose CPU time is this peer's, beside its own process's and its children's."""

    def close(self) -> None: ...
