"""The two sides the fleet's code stands on: a provider of machines, and a transport to them. Both have real implementations
only (EC2 and hosts; SSH and Systems Manager); the pure code between them is tested without either.

Every call has a deadline of its own and raises errors of ours: NotAllowed (credentials, permissions), Unreachable (no answer
in time), DoesNotFit (quota, capacity, cap), NotFound, BadConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from coordinator.fleet.records import Belonging, Machine, NodeRecord, Price, Role

Tell = Callable[[str], None]
"""Takes a line for the person who waits: what was made, found or removed just now."""


class Wanted(NamedTuple):
    """A machine to launch."""

    node: str
    role: Role = "worker"


class Refused(NamedTuple):
    """A machine that could not be launched, and why (every pool that was tried)."""

    node: str
    reason: str


class Finished(NamedTuple):
    """How a command on a node ended. ``output``: standard output and error together, at most the last 64 KiB."""

    status: int
    output: str

    def last_lines(self, count: int = 5) -> str:
        return "\n".join(self.output.strip().splitlines()[-count:])


class Provider(Protocol):
    """Where machines come from."""

    can_launch: bool
    """False for hosts: they are there or not."""

    async def prepare(self, tell: Tell) -> None:
        """Make what machines need beside themselves (security group, role, launch template, bucket …) where it is
        missing. Idempotent; may be run again after a failure in any of its calls."""

    async def machines(self) -> list[Machine]:
        """Every machine of this fleet, those of the last hour that are gone included. Eventually consistent."""

    async def launch(self, wanted: Sequence[Wanted]) -> tuple[list[Machine], list[Refused]]:
        """Launch machines; idempotent by node name. What could not be launched is told, not raised, if others could."""

    async def terminate(self, machines: Sequence[Machine]) -> None:
        """End machines for good (hosts: nothing; their set-up is undone over the transport)."""

    async def stop(self, machines: Sequence[Machine]) -> None:
        """Switch machines off; they keep their disks."""

    async def start(self, machines: Sequence[Machine]) -> None:
        """Switch them on again; their addresses change."""

    async def host_keys(self, machine: Machine) -> tuple[str, ...]:
        """Public SSH host keys from a source that can be trusted; () while the machine has not published them yet."""

    async def price(self, machine_kind: str = "", market: str = "") -> Price | None:
        """What one more machine costs; None where that is not known, or they are yours."""

    async def belongings(self) -> list[Belonging]:
        """All that carries this fleet's tag, in the order in which it must be removed."""

    async def remove(self, belongings: Sequence[Belonging], tell: Tell) -> None:
        """Remove exactly these, and wait until they are gone."""

    async def close(self) -> None:
        """Let go of connections."""


class Connection(Protocol):
    """A way into one node. Commands run as root."""

    async def run(
        self, script: str, *, deadline_s: float, stdin: bytes = b"", on_line: Callable[[str], None] | None = None
    ) -> Finished:
        """Run a POSIX shell script. Raises Unreachable when the node goes away or the deadline passes; the script is ended."""

    async def upload(self, local: Path, remote: str, *, deadline_s: float) -> None:
        """Put a file there (mode 0600, root), atomically, checked by SHA-256. Raises DoesNotFit when the disk is full."""

    async def close(self) -> None:
        """End it."""


class Transport(Protocol):
    """How nodes are reached."""

    async def connect(self, machine: Machine, record: NodeRecord, *, deadline_s: float) -> Connection:
        """Connect, trying again until the deadline. Raises NotAllowed (wrong host key, wrong key, no sudo) at once, naming
        which; Unreachable when the node never answered, with what was seen (refused, timed out, name unknown)."""


class PhaseEvent(NamedTuple):
    """A node's phase began, ended or failed; what the command line draws and the log says."""

    node: str
    phase: str
    """launch, boot, reach, cloud-init, inspect, python, packages, settings, units, start, hello; drain, terminate …"""
    state: Literal["begun", "done", "failed"]
    elapsed_s: float = 0.0
    sentence: str = ""
    """failed: what went wrong, and the node's own last lines."""


Watch = Callable[[PhaseEvent], None]
