"""What is known about a fleet's machines. ``NodeRecord`` and ``FleetRecord`` lie in the store, so that the laptop and a
coordinator on a node of its own see the same. Times of day are seconds since 1970 (UTC).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

NodeName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
Role = Literal["worker", "coordinator"]
MachineState = Literal["starting", "running", "stopping", "stopped", "gone"]
NodeState = Literal["launched", "ready", "failed", "leaving"]


class Machine(msgspec.Struct, frozen=True):
    """A machine as its provider shows it. EC2: one instance with the fleet's tag; hosts: one address of the config."""

    id: str
    """``i-0abc…``, or the address of a host."""
    node: NodeName
    """Which node of the fleet it is: the tag ``tilefleet:node``. Also the name of its worker."""
    state: MachineState
    role: Role = "worker"
    address: str = ""
    """Where SSH connects to; empty while there is none. Changes with every stop and start."""
    port: int = 22
    user: str = ""
    kind: str = ""
    """Instance type; empty for hosts."""
    zone: str = ""
    market: Literal["on-demand", "spot", ""] = ""
    architecture: Literal["x86_64", "arm64", ""] = ""
    launched_at: float = 0.0
    reason: str = ""
    """Why it stopped or is gone, in the provider's words."""


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node of the fleet, as whoever sets it up writes it down. Its name is never used again."""

    name: NodeName
    machine: str
    """Id of its machine."""
    state: NodeState = "launched"
    role: Role = "worker"
    release: str = ""
    """Version of tilefleet that was installed and said hello, such as ``0.1.0+3f9c2e71``."""
    settings: str = ""
    """Digest of the configuration that it was given."""
    host_keys: tuple[str, ...] = ()
    """Pinned public host keys, as known_hosts has them: ``ssh-ed25519 AAAA…``."""
    attempts: int = 0
    """Set-ups that failed so far."""
    step: str = ""
    """The step that failed last."""
    failure: str = ""
    """What went wrong there, in the node's own last lines."""
    phases_s: dict[str, float] = {}
    """How long each phase of launch and set-up took."""
    launched_at: float = 0.0
    """Its last start: when the present cost began."""
    ready_at: float = 0.0
    stopped_at: float = 0.0
    """When it was seen to be switched off; 0 while it runs."""
    ended_at: float = 0.0
    kind: str = ""
    market: str = ""
    usd_per_hour: float = 0.0
    """What the machine costs; 0 where it is not known, or yours."""
    spent_usd: float = 0.0
    """Cost of its runs before the last stop."""
    v: int = 1


class FleetRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fleet, from its first ``up`` to its ``down``."""

    name: str
    uid: str
    """Random: tells this fleet from an earlier one of the same name in idempotency tokens."""
    created_at: float
    created_by: str = ""
    next_node: int = 1
    """Number of the next node, ``n<number>``. Grows by create-only node records; this is where the search begins."""
    spent_usd: float = 0.0
    """Cost of machines whose records were forgotten."""
    count: int = 0
    """Worker nodes that ``up --count`` asked for last; 0: what the configuration says."""
    coordinator: Literal["here", "node", ""] = ""
    """What ``up --coordinator`` asked for last; empty: what the configuration says."""
    v: int = 1


class Turn(msgspec.Struct, frozen=True):
    """Somebody who wants to change the fleet's machines, or does: see ``turn``."""

    by: str
    """For people: ``fleet up on anna-laptop (process 4711)``."""
    until: float
    """By the owner's clock; it is renewed long before. 0: let go."""
    is_command: bool = True
    """A command at a person's hands; the keeper makes way for it."""
    is_held: bool = False
    """Whether its time came: every turn before it is over then, whatever is written of that one later."""
    v: int = 1


class Belonging(msgspec.Struct, frozen=True):
    """Something that carries a fleet's tag, or was made by it: what ``fleet down`` and ``fleet gc`` list."""

    kind: Literal[
        "instance", "launch template", "security group", "volume", "VPC endpoint", "instance profile", "role", "queue", "bucket",
        "data",
    ]  # fmt: skip
    id: str
    fleet: str
    detail: str = ""
    """For people: ``c7i.xlarge, running for 3 h``, ``1,204 objects, 3.1 GiB``."""
    size_bytes: int = 0
    created_at: float = 0.0


class Price(msgspec.Struct, frozen=True):
    """What an instance type costs an hour, in US dollars, and where that is from."""

    kind: str
    market: Literal["on-demand", "spot"]
    usd_per_hour: float
    source: str
    """``AWS price list, 2026-11-22``, ``bundled table, approximate, …``, ``spot price history``."""
