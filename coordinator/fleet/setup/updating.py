"""Changing what a node runs, and leaving it: update, roll back, drain, start, undo.

The rule: all that can be done while the old version still works is done before it is stopped.
"""

from __future__ import annotations

from coordinator.fleet.ports import Connection, Watch
from coordinator.fleet.records import Role
from coordinator.fleet.setup import inspection, scripts, steps
from coordinator.fleet.setup.bootstrap import StepFailed, looked_at, perform, prepared, unwatched
from coordinator.fleet.setup.inspection import Facts
from coordinator.fleet.setup.steps import SetUp, Step
from coordinator.fleet.setup.wheelhouse import Artefacts


async def update(connection: Connection, plan: SetUp, artefacts: Artefacts, watch: Watch) -> Facts:
    """Bring the node to the artefacts' release and the plan's settings: packages first, then drain, switch, start.

    The facts are those before it; ``roll_back`` to their release leads back. Raises StepFailed.
    """
    facts = await looked_at(connection, plan, artefacts, watch)
    facts = await prepared(connection, plan, artefacts, facts, watch)
    release = artefacts.release.version
    for step in (steps.stop(plan, facts, release), *steps.install(facts, plan, release)):
        await perform(connection, plan.node, step, watch)
    return facts


async def roll_back(connection: Connection, plan: SetUp, to_release: str, watch: Watch) -> None:
    """Back to a release that is still on the node, with the settings that the last update replaced. Raises StepFailed."""
    finished = await perform(connection, plan.node, steps.inspect(plan), watch)
    facts = inspection.parse(finished.output)
    if to_release not in facts.releases:
        there = ", ".join(facts.releases) or "none"
        raise StepFailed(plan.node, "roll back", f"{to_release} is not on the node any more; there is {there}")
    for step in steps.roll_back(facts, plan, to_release):
        await perform(connection, plan.node, step, watch)


async def drain(connection: Connection, node: str, *, deadline_s: float, role: Role = "worker", watch: Watch = unwatched) -> None:
    """Stop the daemon: it finishes what it can within its drain time and gives the rest back. Raises StepFailed."""
    await perform(connection, node, Step("drain", scripts.stop(role), deadline_s), watch)


async def start(connection: Connection, node: str, *, deadline_s: float, role: Role = "worker", watch: Watch = unwatched) -> None:
    """Start what was drained, and wait until it is ready. Raises StepFailed."""
    await perform(connection, node, Step("start", scripts.start_again(role), deadline_s), watch)


async def undo(
    connection: Connection, node: str, *, deadline_s: float, role: Role = "worker", watch: Watch = unwatched
) -> tuple[str, ...]:
    """Remove what ``set_up`` made, and nothing else; what was removed, for people. What a machine's worker and coordinator
    share goes with the last of them. Raises StepFailed."""
    finished = await perform(connection, node, Step("undo", scripts.undo(role), deadline_s), watch)
    return tuple(finished.output.splitlines())
