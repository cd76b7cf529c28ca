"""From a machine that answers to a running daemon: the steps of ``steps``, one after the other, over a connection.

The rule: whoever ran before, and however far it came, the same call leads to the same node. A step that fails is named, and
what it says comes from the node itself.
"""

from __future__ import annotations

import asyncio
import getpass
import time
from collections import deque

import msgspec

from coordinator.fleet.failures import sentence_of, sentence_of_hung
from coordinator.fleet.money.spending import lifetime_s_of
from coordinator.fleet.ports import Connection, Finished, PhaseEvent, Watch
from coordinator.fleet.records import Role
from coordinator.fleet.setup import inspection, scripts, steps
from coordinator.fleet.setup.inspection import Facts
from coordinator.fleet.setup.release import bundled
from coordinator.fleet.setup.steps import SetUp, Step, settings_digest
from coordinator.fleet.setup.wheelhouse import Artefacts
from tilefleet.config import Config, CoordinatorSection
from tilefleet.errors import DoesNotFit, NodesFailed, TilefleetError, Unreachable
from tilefleet.fleet_config import SshSection
from tilefleet.toml import to_toml

__all__ = ["Facts", "SetUp", "StepFailed", "looked_at", "perform", "planned", "set_up", "settings_digest", "unwatched"]

METADATA_URL = "http://169.254.169.254"  # of every EC2 instance
SLOWEST_BYTES_PER_S = 150_000  # 16 nodes at once behind an uplink of 20 Mb/s: 17 minutes for the archive of packages
KEPT_LINES = 12  # of what a step says, for the sentence about it


def unwatched(_: PhaseEvent) -> None:
    """A ``Watch`` of nobody's."""


class StepFailed(NodesFailed):
    """A step of a node's set-up did not work out."""

    def __init__(self, node: str, step: str, sentence: str, *, may_pass: bool = False) -> None:
        super().__init__(f"{node}: {step}: {sentence}")
        self.node = node
        self.step = step
        self.sentence = sentence
        self.may_pass = may_pass
        """Whether another try on the same machine may help."""


def planned(config: Config, node: str, role: Role = "worker", environment: str = "") -> SetUp:
    """What a node of this fleet should become. A worker is told only what concerns it, so that the rest may change."""
    worker = msgspec.structs.replace(config.worker, name=node, metadata_url=_metadata_url(config))
    if role == "worker":
        silence = CoordinatorSection(worker_silence=config.coordinator.worker_silence)  # contradicts no longer heartbeat
        told = Config(config.fleet, config.store, config.queues, silence, worker, log=config.log)
    else:
        told = msgspec.structs.replace(config, ssh=_ssh_of_a_node(config))
    machines = config.ec2 if config.nodes.provider == "ec2" else config.hosts
    return SetUp(
        node,
        to_toml(told),
        role,
        environment,
        memory_bytes=config.worker.memory.bytes,
        dead_man_s=machines.dead_man.s,
        lifetime_s=lifetime_s_of(role, config.nodes, lifetime_s=machines.lifetime.s, dead_man_s=machines.dead_man.s),
        boot_s=config.nodes.boot.s,
        step_s=config.nodes.step.s,
        drain_s=(config.worker if role == "worker" else config.coordinator).drain.s,
    )


def _ssh_of_a_node(config: Config) -> SshSection:
    """How a coordinator on a node logs in to the workers: with a key of its own, as no file of this machine is there."""
    user = config.ssh.user or (getpass.getuser() if config.nodes.provider == "hosts" else "")
    return msgspec.structs.replace(config.ssh, user=user, key_file="", known_hosts="", agent=False)


def _metadata_url(config: Config) -> str:
    """Where the node's worker asks for spot notices; instances that are not spot get none."""
    is_spot = config.nodes.provider == "ec2" and config.ec2.market != "on-demand"
    return config.worker.metadata_url or (METADATA_URL if is_spot else "")


async def set_up(connection: Connection, plan: SetUp, artefacts: Artefacts, watch: Watch) -> Facts:
    """Make the node what the plan says, and wait until its daemon is ready; what it is that was set up.

    A node that is all this already is looked at, and left alone. Raises StepFailed.
    """
    facts = await looked_at(connection, plan, artefacts, watch)
    facts = await prepared(connection, plan, artefacts, facts, watch)
    for step in steps.install(facts, plan, artefacts.release.version):
        await perform(connection, plan.node, step, watch)
    return facts


async def looked_at(connection: Connection, plan: SetUp, artefacts: Artefacts, watch: Watch) -> Facts:
    """What the machine is, when it can become a node, and its dead-man switch. Raises StepFailed."""
    for step in steps.first_steps(plan):
        finished = await perform(connection, plan.node, step, watch)
    facts = inspection.parse(finished.output)
    if objection := inspection.objection(facts, steps.needed_bytes(facts, artefacts.release), time.time()):
        raise _failed(watch, plan.node, "inspect", 0.0, objection)
    await perform(connection, plan.node, steps.dead_man(plan, _switch()), watch)
    return facts


def _switch() -> tuple[bytes, bytes, bytes]:
    directory = bundled("systemd")
    script, service, timer = ((directory / f"tilefleet-deadman.{kind}").read_bytes() for kind in ("sh", "service", "timer"))
    return script, service, timer


async def prepared(connection: Connection, plan: SetUp, artefacts: Artefacts, facts: Facts, watch: Watch) -> Facts:
    """Everything that can be done beside a daemon that runs: Python, packages, user. Raises StepFailed."""
    if not facts.python:
        facts = await _with_python(connection, plan, artefacts, facts, watch)
    watch(PhaseEvent(plan.node, "fetch", "begun"))
    began = time.monotonic()
    try:
        wheelhouse = await artefacts.wheelhouse(facts.python, facts.architecture)
    except TilefleetError as error:
        if artefacts.release.version in facts.releases:  # a keeper in a network without an index has no need of one
            watch(PhaseEvent(plan.node, "fetch", "done", time.monotonic() - began))
            return facts
        raise _failed(watch, plan.node, "fetch", time.monotonic() - began, str(error), may_pass=error.is_retryable) from error
    watch(PhaseEvent(plan.node, "fetch", "done", time.monotonic() - began))
    for step in steps.prepare(facts, plan, artefacts.release, wheelhouse):
        await perform(connection, plan.node, step, watch)
    return facts


async def _with_python(connection: Connection, plan: SetUp, artefacts: Artefacts, facts: Facts, watch: Watch) -> Facts:
    """Brought along; where that cannot be fetched here, the distribution's own."""
    try:
        interpreter = await artefacts.interpreter(facts.architecture)
    except TilefleetError as error:
        return await _with_own_python(connection, plan, str(error), watch)
    await perform(connection, plan.node, steps.bring_python(plan, interpreter), watch)
    return steps.with_interpreter(facts, interpreter)


async def _with_own_python(connection: Connection, plan: SetUp, reason: str, watch: Watch) -> Facts:
    said = ""
    try:
        await perform(connection, plan.node, steps.install_python(plan), watch)
    except StepFailed as error:
        said = f": {error.sentence}"
    facts = inspection.parse((await perform(connection, plan.node, steps.inspect(plan), watch)).output)
    if not facts.python:
        sentence = f"it has no Python 3.11 to 3.13; {reason}; and its own distribution gave it none{said}"
        raise _failed(watch, plan.node, "python", 0.0, sentence, may_pass=True)
    return facts


async def perform(connection: Connection, node: str, step: Step, watch: Watch) -> Finished:
    """Run a step. Raises StepFailed with the node's own last lines."""
    watch(PhaseEvent(node, step.name, "begun"))
    began, ran = time.monotonic(), None
    said: deque[str] = deque(maxlen=KEPT_LINES)

    def failed(sentence: str, *, may_pass: bool = False) -> StepFailed:
        return _failed(watch, node, step.name, time.monotonic() - began, sentence, may_pass=may_pass)

    try:
        await _upload(connection, step)
        ran = time.monotonic()
        async with asyncio.timeout(step.deadline_s + 30):  # the connection keeps the deadline; should it not, we do
            finished = await connection.run(step.script, deadline_s=step.deadline_s, stdin=step.stdin, on_line=said.append)
    except TimeoutError:
        raise failed(sentence_of_hung(step.deadline_s, said), may_pass=True) from None
    except Unreachable as error:
        is_late = ran is not None and time.monotonic() - ran >= step.deadline_s
        raise failed(sentence_of_hung(step.deadline_s, said) if is_late else str(error), may_pass=True) from error
    except DoesNotFit as error:
        raise failed(str(error)) from error
    except TilefleetError as error:
        raise failed(str(error), may_pass=error.is_retryable) from error
    if finished.status != 0:
        raise failed(sentence_of(finished.output, finished.status))
    watch(PhaseEvent(node, step.name, "done", time.monotonic() - began))
    return finished


async def _upload(connection: Connection, step: Step) -> None:
    """What arrives is kept, so that another try continues. Raises Unreachable, DoesNotFit, NotAllowed."""
    if step.uploads:
        await connection.run(scripts.PREPARE_UPLOAD, deadline_s=min(60.0, step.deadline_s))
    for upload in step.uploads:
        deadline_s = step.deadline_s + upload.local.stat().st_size / SLOWEST_BYTES_PER_S
        try:
            await connection.upload(upload.local, upload.remote, deadline_s=deadline_s)
        except Unreachable as error:
            way_out = 'another try continues where this one ended, and nodes.packages = "index" sends far less'
            raise Unreachable(f"{error} (sending {upload.local.name}; {way_out})") from error


def _failed(watch: Watch, node: str, step: str, elapsed_s: float, sentence: str, *, may_pass: bool = False) -> StepFailed:
    watch(PhaseEvent(node, step, "failed", elapsed_s, sentence))
    return StepFailed(node, step, sentence, may_pass=may_pass)
