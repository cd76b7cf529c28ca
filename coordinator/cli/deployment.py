"""``tilefleet local``: the embedded deployment, kept running between commands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from coordinator.cli import render
from coordinator.cli.door import command, family
from coordinator.cli.session import Session, run
from tilefleet.errors import BadConfig
from tilefleet.matrix import place_text
from tilefleet.quantities import format_bytes

if TYPE_CHECKING:
    from tilefleet.config import Config
    from tilefleet.local import Deployment
    from tilefleet.records import Control

group = family("local", "Keep the embedded deployment running between commands.", under="Deployment")


@command(
    "up", of=group, examples=(("tilefleet local up", "start it and leave it running: the commands after it save its start"),)
)
def up(session: Session) -> None:
    """Start the embedded deployment and keep it until "tilefleet local down"."""
    config = _local_config(session)
    deployment = run(_up(config))
    session.show(deployment_text(deployment, None, time.time()), document(deployment, None))


@command("status", of=group, examples=(("tilefleet local status --json", "whether it runs, for a program"),))
def status(session: Session) -> None:
    """Whether the embedded deployment runs, where, and what its workers do. Starts nothing."""
    from tilefleet.local import running, state_dir

    config = _local_config(session)
    deployment = running(config)
    if deployment is None:
        session.show(
            f"not running; its state is in {state_dir(config)}", {"is_running": False, "state_dir": str(state_dir(config))}
        )
        return
    control = run(_control(session))
    session.show(deployment_text(deployment, control, time.time()), document(deployment, control))


@command("down", of=group, examples=(("tilefleet local down", "stop it; results stay and can be read"),))
def down(session: Session) -> None:
    """Stop the embedded deployment. Operations that have not ended go on when it is started again."""
    from tilefleet.local import shut_down

    was_running = run(shut_down(_local_config(session)))
    session.show("stopped" if was_running else "it was not running", {"was_running": was_running})


def deployment_text(deployment: Deployment, control: Control | None, now_s: float) -> str:
    """The state of a running deployment, for people."""
    children = ", ".join(f"{name} {pid}" for name, pid in deployment.children.items())
    rows = [
        ("running", f"for {render.age_text(deployment.started_at, now_s)}, until "
                    + ('"tilefleet local down"' if deployment.is_pinned else "nobody needs it")),
        ("processes", f"supervisor {deployment.pid}, {children}"),
        ("store", place_text(deployment.store_url)),
        ("queues", deployment.endpoint_url),
        ("logs", deployment.logs_dir),
    ]  # fmt: skip
    if control is not None:
        rows.append(("operations", f"{control.n_open} not ended"))
        rows += [("worker", _worker(worker, now_s)) for worker in control.workers]
        rows += [("departed", f"{name}: {why}") for name, why in control.departed.items()]
    return render.table(rows)


def document(deployment: Deployment, control: Control | None) -> dict[str, Any]:
    """The same for programs. Keys of the queues are left out."""
    import msgspec

    return {
        "is_running": True,
        "is_pinned": deployment.is_pinned,
        "pid": deployment.pid,
        "children": deployment.children,
        "state_dir": deployment.state_dir,
        "store_url": deployment.store_url,
        "endpoint_url": deployment.endpoint_url,
        "logs_dir": deployment.logs_dir,
        "started_at": deployment.started_at,
        "operations_open": control.n_open if control else None,
        "workers": [msgspec.to_builtins(worker) for worker in control.workers] if control else [],
    }


def _worker(worker: Any, now_s: float) -> str:
    facts = [
        render.count_text(worker.held, "job"),
        render.count_text(worker.cores, "core"),
        format_bytes(worker.memory_bytes),
        render.rate_text(worker.flops_per_s, "FLOP/s"),
        f"heard {render.age_text(worker.heard_at, now_s)} ago",
    ]
    return f"{worker.name}: {', '.join(facts)}"


def _local_config(session: Session) -> Config:
    config = session.config()
    if config.fleet.kind != "local":
        raise BadConfig(
            f'the configuration in force describes the remote fleet {config.fleet.name}; "tilefleet local" needs '
            'fleet.kind = "local" (or no configuration at all)'
        )
    return config


async def _up(config: Config) -> Deployment:
    from tilefleet.local import hold

    async with hold(config, pin=True) as deployment:
        return deployment


async def _control(session: Session) -> Control | None:
    async with session.client() as client:
        return await client.control()
