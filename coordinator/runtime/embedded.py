"""What an embedded deployment consists of: its processes, their configurations and environments, and when it is idle.

The rules: the daemons are those of production, told everything by their config file; the user's AWS set-up is for the
operands and outputs in S3, never for the deployment's own queues; no key stands on a command line. Files are read here,
processes are not touched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from tilefleet.config import Config, LocalSection
from tilefleet.ids import is_operation_id
from tilefleet.layout import CONTROL, OPEN, epoch_of_key
from tilefleet.local import REGION, local_queues, local_store
from tilefleet.local_state import StateFiles
from tilefleet.quantities import Duration, Size, format_seconds
from tilefleet.sqs_keys import ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE
from tilefleet.toml import to_toml

QUEUES = "queues"
COORDINATOR = "coordinator"
LEAST_MEMORY_BYTES = 512 * 2**20  # two 2048 × 2048 float64 panels, a block, and 150 MiB for the interpreter with numpy
LONGEST_DRAIN_S = 10.0  # on a laptop nobody waits for a minute; what is given back is in the store's record
BEACON_AGE_S = 30.0  # a beacon older than this is of a coordinator that is no more
_OURS = ("TILEFLEET_", "NOTIFY_", "WATCHDOG_")  # said to this process, not to its children


class Keys(NamedTuple):
    """Made up for one deployment; who has the access key may use its queues."""

    access_key: str
    secret_key: str


class ChildSpec(NamedTuple):
    """One process of the deployment: how to start it."""

    name: str
    arguments: tuple[str, ...]
    """After the interpreter's name."""
    environment: dict[str, str]
    is_told: bool = False
    """Takes messages on its standard input."""


class Machine(NamedTuple):
    """What there is to share out."""

    cores: int
    memory_bytes: int


def child_specs(config: Config, files: StateFiles, port: int, environment: Mapping[str, str], keys: Keys) -> list[ChildSpec]:
    """The processes; ``environment`` is the user's."""
    base = daemon_environment(environment, keys)
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # no arithmetic there, and no memory for its threads; workers set their own
    daemon = os.fspath(files.config("daemon"))
    workers = [(f"w{number}", os.fspath(files.config(f"workerd-{number}"))) for number in range(1, config.local.workers + 1)]
    return [
        ChildSpec(
            QUEUES,
            ("-P", "-m", "coordinator.runtime.standin", "--port", str(port)),
            standin_environment(environment, keys) | one_thread,
        ),
        ChildSpec(
            COORDINATOR, ("-P", "-m", "coordinator.daemon", "--config", daemon, "--hear-stdin"), base | one_thread, is_told=True
        ),
        *(ChildSpec(name, ("-P", "-m", "workerd.daemon", "--config", path), base) for name, path in workers),
    ]


def config_texts(config: Config, files: StateFiles, machine: Machine, endpoint_url: str) -> dict[Path, str]:
    """The daemons' config files. To them the deployment is remote: a store and queues that somebody else provides."""
    base = msgspec.structs.replace(
        config,
        fleet=msgspec.structs.replace(config.fleet, kind="remote"),
        store=local_store(config, files.store.as_uri()),
        queues=local_queues(config, endpoint_url),
        coordinator=msgspec.structs.replace(config.coordinator, drain=_at_most(config.coordinator.drain, LONGEST_DRAIN_S)),
        local=LocalSection(),
    )
    texts = {files.config("daemon"): to_toml(base)}
    for number in range(1, config.local.workers + 1):
        worker = msgspec.structs.replace(
            config.worker,
            name=f"w{number}",
            cores=cores_per_worker(config, machine),
            memory=Size(f"{memory_per_worker_bytes(config, machine) // 2**20} MiB"),
            drain=_at_most(config.worker.drain, LONGEST_DRAIN_S),
        )
        texts[files.config(f"workerd-{number}")] = to_toml(msgspec.structs.replace(base, worker=worker))
    return texts


def _at_most(duration: Duration, limit_s: float) -> Duration:
    return duration if duration.s <= limit_s else Duration(format_seconds(limit_s))


def cores_per_worker(config: Config, machine: Machine) -> int:
    """An even share, at least one."""
    return max(1, machine.cores // config.local.workers)


def memory_per_worker_bytes(config: Config, machine: Machine) -> int:
    """local.memory, else a quarter of the machine shared out: the rest is the user's and the page cache's."""
    return config.local.memory.bytes or max(LEAST_MEMORY_BYTES, machine.memory_bytes // 4 // config.local.workers)


def this_machine() -> Machine:
    """Cores that this process may run on, and memory, as its control group limits it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # of a container: v2, v1
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        memory_bytes = min(memory_bytes, int(text)) if text.isdigit() else memory_bytes
    return Machine(cores, memory_bytes)


def daemon_environment(environment: Mapping[str, str], keys: Keys) -> dict[str, str]:
    """The user's environment, AWS settings and proxies for S3 included, and the deployment's keys for its queues."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_OURS)}
    return kept | {ACCESS_KEY_VARIABLE: keys.access_key, SECRET_KEY_VARIABLE: keys.secret_key, "PYTHONUNBUFFERED": "1"}


def standin_environment(environment: Mapping[str, str], keys: Keys) -> dict[str, str]:
    """The user's environment without AWS settings: the stand-in plays AWS, and calls nobody."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("AWS_", *_OURS))}
    return kept | {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONUNBUFFERED": "1",
    }


def command_line(spec: ChildSpec) -> list[str]:
    """-P in the arguments: a file named ``queue.py`` where the user happens to be must not become a module of ours."""
    return [sys.executable, *spec.arguments]


class _Beacon(msgspec.Struct):
    """Of the control object, what is needed here; the whole type would pull in the matrix modules."""

    at: float
    n_open: int = 0


def is_idle(store: Path, now: float) -> bool:
    """Whether no operation is open: none has its mark in the store, and the leader's last beacon, if it is fresh, has none."""
    if any(is_operation_id(name) for name in _names(store / OPEN)):
        return False
    epochs = [name for name in _names(store / CONTROL) if name.endswith(".json") and epoch_of_key(name) is not None]
    if not epochs:
        return True
    try:
        beacon = msgspec.json.decode((store / CONTROL / max(epochs)).read_bytes(), type=_Beacon)
    except (OSError, msgspec.DecodeError, UnicodeError):
        return True
    return beacon.n_open == 0 or beacon.at < now - BEACON_AGE_S


def _names(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except OSError:
        return []
