"""From a machine that answers to a running daemon: the steps of ``steps``, one after the other, over a connection.

The rule: whoever ran before, and however far it came, the same call leads to the same node. A step that fails is named, and
what it says comes from the node itself.
"""

from __future__ import annotations

from coordinator.fleet.ports import Connection, Watch
from coordinator.fleet.records import NodeName, Role
from coordinator.fleet.steps import Facts, SetUp
from coordinator.fleet.wheelhouse import Artefacts
from tilefleet.config import Config
from tilefleet.errors import TilefleetError


class StepFailed(TilefleetError):
    """A step of a node's set-up did not work out. ``is_retryable``: whether another try on the same machine may help."""

    code = "step_failed"
    exit_code = 13

    def __init__(self, node: str, step: str, sentence: str, *, is_retryable: bool = False) -> None:
        super().__init__(f"{node}: {step}: {sentence}")
        self.node = node
        self.step = step
        self.sentence = sentence
        self.is_retryable = is_retryable  # type: ignore[misc]


def planned(config: Config, node: NodeName, role: Role = "worker", environment: str = "") -> SetUp:
    """What a node of this fleet should become."""
    raise NotImplementedError


def settings_digest(plan: SetUp) -> str:
    """Names the settings a node was given: ``NodeRecord.settings``."""
    raise NotImplementedError


async def set_up(connection: Connection, plan: SetUp, artefacts: Artefacts, watch: Watch) -> Facts:
    """Make the node what the plan says, and wait until its daemon is ready. Raises StepFailed."""
    raise NotImplementedError
