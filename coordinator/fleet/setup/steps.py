"""The steps of a node's set-up: what is known about the node and what is wanted in, scripts with deadlines out.

Pure. The order is that of a node's life: what a step needs, an earlier one made; and nothing that runs is touched before
``stop``.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

from coordinator.fleet.records import Role
from coordinator.fleet.setup import scripts
from coordinator.fleet.setup.inspection import INSPECT, NEW_RELEASE_BYTES, UPLOADED_BYTES, Facts
from coordinator.fleet.setup.materials import Interpreter, Release, Wheelhouse
from coordinator.fleet.setup.places import CACHE, PYTHONS

START_S = 120.0  # TimeoutStartSec of the units
STOP_S = 30.0  # what systemd waits beyond the drain before it kills


class Upload(NamedTuple):
    """A file that a step needs on the node."""

    local: Path
    remote: str


class Step(NamedTuple):
    """One step: files, then a script as root."""

    name: str
    script: str
    deadline_s: float
    stdin: bytes = b""
    uploads: tuple[Upload, ...] = ()


class SetUp(NamedTuple):
    """What a node should become."""

    node: str
    settings: str
    """Text of its ``workerd.toml`` or ``coordinator.toml``."""
    role: Role = "worker"
    environment: str = ""
    """Text of its environment file, for root alone; empty: it has what it needs."""
    memory_bytes: int = 0
    """What its daemon may use; 0: half of the machine."""
    dead_man_s: float = 0.0
    """The machine powers itself off when no coordinator was heard this long; 0: never."""
    lifetime_s: float = 0.0
    """The same after so much running time; 0: never."""
    boot_s: float = 300.0
    step_s: float = 300.0
    drain_s: float = 60.0


def first_steps(plan: SetUp) -> tuple[Step, ...]:
    """Before anything is known: until the machine is finished with itself, then what it is."""
    return (Step("cloud-init", scripts.CLOUD_INIT, plan.boot_s), inspect(plan))


def inspect(plan: SetUp) -> Step:
    """What the machine is; its output is for ``inspection.parse``."""
    return Step("inspect", INSPECT, min(60.0, plan.step_s))


def dead_man(plan: SetUp, files: tuple[bytes, bytes, bytes]) -> Step:
    """The switch comes first, so that a machine whose set-up fails ends too. Files: its script, service and timer."""
    script = scripts.install_dead_man(
        (len(files[0]), len(files[1]), len(files[2])), math.ceil(plan.dead_man_s), math.ceil(plan.lifetime_s)
    )
    return Step("dead-man", script, _short_s(plan), stdin=b"".join(files))


def needed_bytes(facts: Facts, release: Release) -> int:
    """How much of the disk the set-up takes at its fullest."""
    return 0 if release.version in facts.releases else NEW_RELEASE_BYTES + UPLOADED_BYTES


def bring_python(plan: SetUp, interpreter: Interpreter) -> Step:
    """A Python for a node that has none that will do."""
    upload = Upload(interpreter.archive, f"{CACHE}/{interpreter.archive.name}")
    return Step("python", scripts.unpack_python(interpreter, upload.remote), plan.step_s, uploads=(upload,))


def install_python(plan: SetUp) -> Step:
    """The same from the node's distribution: the second way, as it needs the internet there, and a free package manager."""
    return Step("python", scripts.INSTALL_PYTHON, plan.step_s)


def with_interpreter(facts: Facts, interpreter: Interpreter) -> Facts:
    """The facts after ``bring_python``."""
    return facts._replace(python=interpreter.minor, python_path=f"{PYTHONS}/{interpreter.version}/bin/python{interpreter.minor}")


def prepare(facts: Facts, plan: SetUp, release: Release, wheelhouse: Wheelhouse) -> tuple[Step, ...]:
    """What can be done beside a daemon that runs: packages and the user."""
    script = scripts.install_packages(release, wheelhouse, facts.python_path)
    uploads: tuple[Upload, ...] = ()
    if release.version not in facts.releases:
        is_there = wheelhouse.digest in facts.wheelhouses or f"wheels-{wheelhouse.digest[:16]}" in facts.uploads
        files = [release.wheel] if is_there else [*wheelhouse.uploads, release.wheel]
        uploads = tuple(Upload(local, f"{CACHE}/{local.name}") for local in files)
    packages = Step("packages", script, plan.step_s, stdin=wheelhouse.requirements.encode(), uploads=uploads)
    return packages, Step("user", scripts.USER, min(60.0, plan.step_s))


def stop(plan: SetUp, facts: Facts | None = None, release: str = "") -> Step:
    """Drain; with facts and a release: unless the daemon already is what it should become."""
    stamp = _stamp(facts, plan, release) if facts else ""
    return Step("drain", scripts.stop(plan.role, stamp), plan.drain_s + STOP_S)


def install(facts: Facts, plan: SetUp, release: str) -> tuple[Step, ...]:
    """What changes the daemon, from settings to its start."""
    settings, environment = plan.settings.encode(), plan.environment.encode()
    script = scripts.write_settings(plan.role, len(settings), len(environment))
    return (Step("settings", script, _short_s(plan), settings + environment), *_from_units_on(facts, plan, release))


def roll_back(facts: Facts, plan: SetUp, release: str) -> tuple[Step, ...]:
    """To a release that is on the node, with the settings that the last change replaced."""
    settings = Step("settings", scripts.restore_settings(plan.role), _short_s(plan))
    return (stop(plan), settings, *_from_units_on(facts, plan, release))


def _from_units_on(facts: Facts, plan: SetUp, release: str) -> tuple[Step, ...]:
    units = scripts.install_units(plan.role, release, facts.systemd, for_this_node(plan, facts))
    return (
        Step("units", units, _short_s(plan)),
        Step("switch", scripts.switch(release), _short_s(plan)),
        Step("start", scripts.start(plan.role, _stamp(facts, plan, release)), START_S + STOP_S + plan.drain_s),
    )


def for_this_node(plan: SetUp, facts: Facts) -> dict[str, str]:
    """What the unit has otherwise on this node: time to drain, and of a worker the memory.

    MemoryMax is an eighth and 256 MiB above what the worker plans with, so that only a mistake is killed; the pages of files
    count too, but go before the limit is felt.
    """
    limits = {"TimeoutStopSec": f"{plan.drain_s + STOP_S:.0f}"}
    if plan.role == "worker":
        planned = plan.memory_bytes or facts.memory_bytes // 2
        limits["MemoryMax"] = str(planned + planned // 8 + 256 * 2**20)
    return limits


def settings_digest(plan: SetUp) -> str:
    """Names what a node is told; its own name is a part of that."""
    limits = f"{plan.memory_bytes} {plan.dead_man_s} {plan.lifetime_s}"
    return _digest(plan.role, plan.settings, plan.environment, limits)


def _stamp(facts: Facts, plan: SetUp, release: str) -> str:
    return _digest(release, plan.settings, plan.environment, str(for_this_node(plan, facts)))


def _short_s(plan: SetUp) -> float:
    return min(60.0, plan.step_s)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
