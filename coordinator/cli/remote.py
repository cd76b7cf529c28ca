"""``tilefleet fleet logs | ssh | exec``: what goes on in the nodes, and a way into them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coordinator.cli.door import command
from coordinator.cli.fleet_door import as_made, fleet_config, group
from coordinator.cli.session import Session, run
from tilefleet.errors import NotFound, Unreachable

if TYPE_CHECKING:
    from coordinator.fleet.connections.everywhere import Missed, Target
    from coordinator.fleet.fleet import Fleet
    from coordinator.fleet.journals import Line
    from coordinator.fleet.ports import Connection, Finished
    from coordinator.fleet.records import NodeRecord
    from tilefleet.config import Config

TAIL = 50  # lines of each node, when nothing was said about since when
FOLLOWED_TAIL = 10

Nodes = Annotated[
    list[str] | None,
    typer.Option("--node", "-n", metavar="NODE", help="Only this node (name, machine or address); may be given several times."),
]


class Level(StrEnum):
    """Of log lines, as ``coordinator.fleet.journals`` orders them."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is logged from now on, until Ctrl-C.")]
OperationOption = Annotated[str, typer.Option("--operation", "--op", metavar="OP", help="Only lines about this operation.")]
SinceOption = Annotated[str, typer.Option("--since", metavar="AGE", help='Begin so long ago, such as "10m" or "2 h".')]
LevelOption = Annotated[Level, typer.Option("--level", metavar="LEVEL", help="Leave out what is less important.")]
Node = Annotated[str, typer.Argument(metavar="NODE", help="Its name, machine or address.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="CMD...", help="A command for the node's shell; none: a session.")]
Everywhere = Annotated[list[str], typer.Argument(metavar="CMD...", help="A command for the nodes' shells; runs as root.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="End it on a node after this time.")]


@command(
    "logs", of=group,
    examples=(
        ("tilefleet fleet logs", f"the last {TAIL} lines of each node, in the order of time"),
        ("tilefleet fleet logs -f --level warning", "what goes wrong, as it happens"),
        ("tilefleet fleet logs --operation cpjh305aeqnm", "one operation, through all nodes"),
        ("tilefleet fleet logs --node n3 --since 2h --json", "one node, as JSON lines"),
    ),
)  # fmt: skip
def logs(
    session: Session,
    follow: FollowOption = False,
    node: Nodes = None,
    operation: OperationOption = "",
    since: SinceOption = "",
    level: LevelOption = Level.DEBUG,
) -> None:
    """The journals of all nodes' daemons as one, in the order of time."""
    from coordinator.fleet.journals import Wanted
    from tilefleet.quantities import parse_seconds

    since_s = parse_seconds(since) if since else None
    run(_logs(session, fleet_config(session), node or [], Wanted(operation, level.value), since_s, follow=follow))


async def _logs(session: Session, config: Config, names: list[str], wanted: Any, since_s: float | None, *, follow: bool) -> None:
    from coordinator.fleet.fleet import opened
    from coordinator.fleet.journals import as_document, as_text
    from coordinator.fleet.reading_journals import read

    missed: list[Missed] = []

    config = await as_made(config)
    async with opened(config) as fleet:
        targets = await _chosen(fleet, names)
        width = max(len(target.record.name) for target in targets)

        def show(line: Line) -> None:
            session.say(json.dumps(as_document(line), ensure_ascii=False) if session.is_json else as_text(line, None, width))

        def miss(one: Missed) -> None:
            missed.append(one)
            typer.echo(f"tilefleet: {one.sentence}", err=True)

        await read(
            fleet.transport, targets, wanted, show, miss,
            since_s=since_s, count=FOLLOWED_TAIL if follow else TAIL, follow=follow, polled=config.nodes.transport == "ssm",
        )  # fmt: skip
    if missed:
        raise typer.Exit(Unreachable.exit_code)


@command(
    "ssh", of=group, is_verbatim=True,
    examples=(
        ("tilefleet fleet ssh n1", "a shell on a node, by your own ssh and the pinned host keys"),
        ("tilefleet fleet ssh n1 systemctl status workerd", "one command"),
    ),
)  # fmt: skip
def ssh(session: Session, node: Node, words: Words = None) -> None:
    """A shell on a node, or one command there, by your own ssh. Options go before NODE."""
    line = run(_way_in(fleet_config(session), node, words or []))
    if shutil.which(line[0]) is None:
        raise NotFound(f"there is no program {line[0]!r} on this machine's PATH; what it would have run: {shlex.join(line)}")
    os.execvp(line[0], line)  # noqa: S606  the person's own program takes the terminal over


async def _way_in(config: Config, name: str, words: list[str]) -> list[str]:
    from coordinator.fleet.connections.by_hand import session_words, ssh_words
    from coordinator.fleet.connections.keys import key_in_use, write_known_hosts
    from coordinator.fleet.fleet import opened

    config = await as_made(config)
    async with opened(config) as fleet:
        machines, records = await fleet.provider.machines(), await fleet.nodes.nodes()
        [target] = _among(machines, records, [name])
        if config.nodes.transport == "ssm":
            from tilefleet.aws import region_of

            return session_words(target.machine, region_of(config.ec2.region, config.store.region), words)
        write_known_hosts(fleet.files, _among(machines, records, []))
        key = key_in_use(fleet.files, config.ssh)
        return ssh_words(target.machine, config.ssh, known_hosts=fleet.files.known_hosts, key=key, words=words)


@command(
    "exec", of=group, is_verbatim=True,
    examples=(
        ("tilefleet fleet exec uptime", "on all nodes at once"),
        ("tilefleet fleet exec --node n1 --node n2 'df -h / && free -m'", "on two, through their shells"),
        ("tilefleet fleet exec --json systemctl is-active workerd", "for a program"),
    ),
)  # fmt: skip
def execute(session: Session, words: Everywhere, node: Nodes = None, timeout: Timeout = "10 m") -> None:
    """Run a command as root on all nodes at once. The exit code is the highest of theirs, 7 when one was not reached. Options
    go before CMD."""
    from tilefleet.quantities import parse_seconds

    code = run(_execute(session, fleet_config(session), " ".join(words), node or [], parse_seconds(timeout)))
    if code:
        raise typer.Exit(code)


async def _execute(session: Session, config: Config, script: str, names: list[str], deadline_s: float) -> int:
    from coordinator.fleet.connections.everywhere import on_each
    from coordinator.fleet.fleet import opened

    results: dict[str, dict[str, Any]] = {}

    async with opened(await as_made(config)) as fleet:
        targets = await _chosen(fleet, names)
        width = max(len(target.record.name) for target in targets)

        async def work(connection: Connection, record: NodeRecord) -> None:
            def said(line: str) -> None:
                if not session.is_json:
                    session.say(f"{record.name:<{width}} | {line}")

            began = time.monotonic()
            done: Finished = await connection.run(script, deadline_s=deadline_s, on_line=said)
            elapsed_s = round(time.monotonic() - began, 3)
            results[record.name] = {"node": record.name, "status": done.status, "output": done.output, "elapsed_s": elapsed_s}
            if done.status:
                session.remark(f"{record.name:<{width}} : ended with status {done.status}")

        for missed in await on_each(fleet, targets, "exec", work, lambda _: None):
            results[missed.node] = {"node": missed.node, "status": None, "error": missed.sentence}
            session.remark(f"tilefleet: {missed.sentence}")
    in_order = [results[target.record.name] for target in targets]
    if session.is_json:
        session.show("", in_order)
    return max(Unreachable.exit_code if one["status"] is None else one["status"] for one in in_order)


async def _chosen(fleet: Fleet, names: list[str]) -> list[Target]:
    return _among(await fleet.provider.machines(), await fleet.nodes.nodes(), names)


def _among(machines: Any, records: Any, names: list[str]) -> list[Target]:
    from coordinator.fleet.connections.choosing import chosen

    return chosen(machines, records, names)
