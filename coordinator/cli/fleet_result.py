"""How ``fleet up``, ``sync`` and ``start`` ended: for people with what to do next, for programs, and as an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from coordinator.cli.fleet_door import this_command
from coordinator.cli.fleet_live import seconds_text
from coordinator.cli.fleet_progress import timings
from coordinator.cli.render import count_text
from coordinator.cli.session import Session
from tilefleet.errors import NodesFailed

if TYPE_CHECKING:
    from coordinator.fleet.convergence import Outcome
    from coordinator.fleet.deciding.picture import Desired
    from coordinator.fleet.fleet import Fleet
    from coordinator.fleet.here import Running


class Result(NamedTuple):
    """All that is known at the end."""

    outcome: Outcome
    desired: Desired
    running: Running | None
    """The coordinator of this machine."""
    elapsed_s: float
    phases_s: dict[str, dict[str, float]]

    @property
    def n_wanted(self) -> int:
        hosts = self.desired.hosts
        return (len(hosts) if hosts is not None else self.desired.n_workers) + self.desired.has_coordinator


def coordinator_text(running: Running) -> str:
    """``coordinator of this machine started (process 4711)``."""
    what = {"found": "runs", "started": "started", "restarted": "started anew"}[running.did]
    lead = "" if running.leads else f"; {running.leader} leads, this one stands by"
    return f"coordinator of this machine {what} (process {running.pid}){lead}"


def conclude(session: Session, fleet: Fleet, result: Result) -> None:
    """Say how it ended. Raises NodesFailed when not all is as it should be."""
    outcome = result.outcome
    head = f"{_up_text(result)} after {seconds_text(result.elapsed_s)}"
    next_steps = "\n".join(how_to_go_on(session, fleet, result.running)) if outcome.ready else ""
    session.show("\n\n".join(part for part in (head, timings(result.phases_s), next_steps) if part), document(fleet, result))
    if not outcome.is_converged or outcome.failures or outcome.refused or outcome.rolled_back:
        raise incomplete(result)


def _up_text(result: Result) -> str:
    n_up = len(result.outcome.ready)
    return f"{n_up} of {count_text(result.n_wanted, 'node')} {'is' if 1 in (n_up, result.n_wanted) else 'are'} up"


def incomplete(result: Result) -> NodesFailed:
    """Which nodes are missing and why, and that the same command goes on."""
    outcome = result.outcome
    lines = [f"{failure.node}: {failure.step}: {failure.sentence}" for failure in outcome.failures]
    lines += [f"{refused.node}: not launched: {refused.reason}" for refused in outcome.refused]
    lines += [f"{node}: did not come back from the update and was rolled back" for node in outcome.rolled_back]
    told = "".join("\n  " + line.replace("\n", "\n    ") for line in lines)
    return NodesFailed(f"{_up_text(result)}; run the same command again to go on with the rest{told}")


def how_to_go_on(session: Session, fleet: Fleet, running: Running | None) -> list[str]:
    """What a person wants to know when the fleet is up."""
    down = this_command(session, "fleet down")
    rows = [
        ("use it", this_command(session, "multiply A B -o C")),
        ("look", this_command(session, "fleet status --watch")),
        ("logs", this_command(session, "fleet logs -f")),
        ("stop paying", f"{down} (or fleet stop, which keeps the disks)") if fleet.provider.can_launch else ("undo", down),
    ]
    lines = [f"{name + ':':<13}{said}" for name, said in rows]
    return [*lines, "", *_about_this_machine(fleet, running)] if running is not None else lines


def _about_this_machine(fleet: Fleet, running: Running) -> list[str]:
    config = fleet.config
    dead_man = config.ec2.dead_man if config.nodes.provider == "ec2" else config.hosts.dead_man
    said = [
        f"The coordinator runs on this machine: process {running.pid}, log {fleet.files.coordinator_log}.",
        "While this machine is off or asleep, nothing is handed out"
        + (f"; after {dead_man} of that the nodes power themselves off." if dead_man.s else "."),
    ]
    if config.nodes.provider == "ec2" or config.hosts.coordinator:
        said.append("With --coordinator node it may be closed.")
    return said


def document(fleet: Fleet, result: Result) -> dict[str, Any]:
    """The same for programs."""
    outcome = result.outcome
    return {
        "fleet": fleet.config.fleet.name,
        "nodes_wanted": result.n_wanted,
        "is_converged": outcome.is_converged,
        "ready": list(outcome.ready),
        "failures": [failure._asdict() for failure in outcome.failures],
        "refused": [refused._asdict() for refused in outcome.refused],
        "rolled_back": list(outcome.rolled_back),
        "elapsed_s": round(result.elapsed_s, 3),
        "phases_s": {
            node: {phase: round(took_s, 3) for phase, took_s in phases.items()} for node, phases in result.phases_s.items()
        },
        "coordinator": result.running._asdict() if result.running else None,
    }
