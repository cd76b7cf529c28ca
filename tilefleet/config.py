"""The settings of a deployment: one TOML file for client, coordinator and workerd; each reads what concerns it.

Every field says its unit, its default and the reason for the default. ``tilefleet config check`` reports all mistakes at once.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from tilefleet.errors import BadConfig, BadInput
from tilefleet.fleet_config import Ec2Section, HostsSection, NodesSection, SshSection
from tilefleet.ids import FleetName
from tilefleet.quantities import Duration, Size, parse_bytes, parse_seconds

HostName = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{0,255}\Z")]
"""Empty, or a ``WorkerName``."""


class FleetSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[fleet]: which deployment this is."""

    name: FleetName = "local"
    """Prefix of the queues and the tag on everything that is made; one per deployment."""
    kind: Literal["local", "remote"] = "local"
    """local: the embedded deployment on this machine, started when needed. remote: daemons that run elsewhere."""
    keep_results: Duration = Duration("7 d")
    """How long results without ``-o`` are kept after they are done: a week spans a holiday and bounds the storage bill."""


class StoreSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[store]: the object store."""

    url: str = ""
    """``s3://bucket/prefix`` or ``file:///directory``. Required for remote; local deployments use their state directory.
    ``{account}`` and ``{region}`` stand for the account number of your credentials and the region of the store. It is
    also a tag of what an ``ec2`` fleet makes: there only letters, digits, blanks and ``+ - = . _ : / @``."""
    endpoint_url: str = ""
    """Of an S3-compatible store; empty for AWS."""
    region: str = ""
    """Empty: what the AWS environment says, else us-east-1."""
    timeout: Duration = Duration("60 s")
    """For one request: 16 MiB over a link of 5 Mb/s take 27 s."""
    allow_local_files: bool = False
    """Whether workers may read and write paths of their own machine. The embedded deployment sets it; a fleet must not."""


class QueuesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[queues]: SQS. The queues are named ``<fleet>-operations``, ``-jobs``, ``-completions``, each with ``-dead``."""

    endpoint_url: str = ""
    """Of an SQS-compatible service; empty for AWS."""
    region: str = ""
    """Empty: what the AWS environment says, else us-east-1."""
    lease: Duration = Duration("60 s")
    """Visibility timeout of a job: short, so that a dead worker's jobs come back soon; renewed every third of it."""
    max_receives: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5
    """Deliveries before a message goes to the dead-letter queue."""


class CoordinatorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[coordinator]: how work is planned and handed out."""

    jobs_per_worker: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """Jobs queued or running per live worker: one computing, one fetching, one waiting so that nobody idles."""
    job_target: Duration = Duration("20 s")
    """No job is planned longer than this: cancelling, small operations and spot notices wait for the job in hand."""
    worker_silence: Duration = Duration("15 s")
    """A worker not heard for this long is taken as lost: three heartbeats of 5 s."""
    no_worker_timeout: Duration = Duration("10 m")
    """An operation fails when no worker was heard for this long while it had work."""
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=20)] = 4
    """Tries at one job before its operation fails by name."""
    beacon: Duration = Duration("2 s")
    """How often the control object is rewritten; a stand-by takes over after five silent ones."""
    inbox: Duration = Duration("30 s")
    """How often unfinished records are listed, so that a lost message loses nothing."""
    drain: Duration = Duration("20 s")
    """Deadline for a clean stop."""


class WorkerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[worker]: one workerd, which is one per node."""

    name: HostName = ""
    """Empty: the host's name. Must be unique in the fleet."""
    memory: Size = Size("0")
    """Bytes this process may use, all included. 0: half of what the machine has."""
    cores: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    """BLAS threads. 0: the cores this process may run on."""
    heartbeat: Duration = Duration("5 s")
    """Between heartbeats to the coordinator; the lease of the jobs in hand has its own."""
    drain: Duration = Duration("60 s")
    """On SIGTERM: finish what can be finished in this time, give the rest back."""
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    """Store requests at a time: 8–16 MiB each in parallel fill a NIC."""
    metadata_url: str = ""
    """Where spot notices are asked for: http://169.254.169.254 on EC2, where `fleet up` sets it. Empty: nowhere."""


class LocalSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[local]: the embedded deployment."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    """workerd processes; the cores are shared out among them."""
    memory: Size = Size("0")
    """For each process. 0: a quarter of the machine's memory divided by the number of workers, at least 512 MiB."""
    state_dir: str = ""
    """Store, logs and sockets. Empty: the user's data directory for tilefleet."""


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[log]: JSON lines on standard output."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below it are not written. info: what happened to operations, jobs and workers; debug adds each job on its way."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole configuration; every section and key may be left out."""

    fleet: FleetSection = FleetSection()
    store: StoreSection = StoreSection()
    queues: QueuesSection = QueuesSection()
    coordinator: CoordinatorSection = CoordinatorSection()
    worker: WorkerSection = WorkerSection()
    local: LocalSection = LocalSection()
    log: LogSection = LogSection()
    nodes: NodesSection = NodesSection()
    ssh: SshSection = SshSection()
    hosts: HostsSection = HostsSection()
    ec2: Ec2Section = Ec2Section()


class Mistake(msgspec.Struct, frozen=True):
    """One thing wrong in a config file. ``line`` is 1-based; 0 when the key is absent."""

    line: int
    key: str
    problem: str


def parse(text: str) -> tuple[Config, list[Mistake]]:
    """The configuration in a TOML text, and everything that is wrong with it (then the configuration is the default)."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"at line (\d+)", str(error))
        return Config(), [Mistake(int(found[1]) if found else 0, "", f"not TOML: {error}")]
    mistakes: list[Mistake] = []
    sections = {name: _section(text, name, value, mistakes) for name, value in document.items()}
    config = Config(**{name: section for name, section in sections.items() if section is not None})
    wrong = {mistake.key for mistake in mistakes}
    mistakes += [
        Mistake(_first_line_of(text, keys), keys[0], problem)
        for *keys, problem in _contradictions(config)
        if wrong.isdisjoint([*keys, *(key.partition(".")[0] for key in keys)])
    ]
    return (Config() if mistakes else config), sorted(mistakes, key=lambda mistake: mistake.line)


def load(path: Path) -> Config:
    """The configuration in a file. Raises BadConfig, listing every mistake, when it cannot be used."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadConfig(
            f"there is no config file {path}; write one with 'tilefleet init' or name another with --config"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"the config file {path} cannot be read: {error}") from error
    config, mistakes = parse(text)
    if mistakes:
        raise BadConfig("\n".join(f"{path}:{mistake.line}: {mistake.key}: {mistake.problem}" for mistake in mistakes))
    return config


def _section(text: str, name: str, value: Any, mistakes: list[Mistake]) -> Any:
    fields = {field.name: field for field in msgspec.structs.fields(Config)}
    if name not in fields:
        mistakes.append(Mistake(_line_of(text, name), name, f"no such section; allowed are {', '.join(fields)}"))
        return None
    if not isinstance(value, dict):
        mistakes.append(Mistake(_line_of(text, name), name, f"must be a section: write [{name}]"))
        return None
    kind = fields[name].type
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    values = {}
    for key, item in value.items():
        if key not in known:
            problem = f"no such key in [{name}]; allowed are {', '.join(known)}"
        else:
            try:
                values[key] = _value(item, known[key].type)
                continue
            except BadInput as error:
                problem = f"{error}; got {item!r}"
        mistakes.append(Mistake(_line_of(text, name, key), f"{name}.{key}", problem))
    return kind(**values)


def _value(item: Any, kind: Any) -> Any:
    if kind is Size or kind is Duration:
        if not isinstance(item, str):
            raise BadInput(f"write a number and a unit in quotes, such as {kind.example}")
        text = item
        (parse_bytes if kind is Size else parse_seconds)(text)
        return kind(text)
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError:
        raise BadInput(f"must be {_in_words(kind)}") from None


_WORDS = {
    FleetName: "1–40 of a–z, 0–9 and -, the first not a -",
    HostName: "text of at most 255 letters, digits and signs, without blanks",
    str: "text in quotes",
    bool: "true or false",
    tuple[str, ...]: 'a list of texts: ["one", "two"]',
}


def _in_words(kind: Any) -> str:
    """What a key takes, for people: a pattern or a type's name means nothing to most."""
    if kind in _WORDS:
        return _WORDS[kind]
    if get_origin(kind) is Literal:
        return " or ".join(f'"{value}"' for value in get_args(kind))
    bounds = kind.__metadata__[0]
    if get_args(kind)[0] is float:
        return f"a number, {bounds.ge} to {bounds.le}"
    return f"a whole number, {bounds.ge} to {bounds.le}"


_MAY_BE_ZERO = (  # drain: give back at once; lease: bounds of its own; dead_man, lifetime: never
    "coordinator.drain", "worker.drain", "queues.lease", "hosts.dead_man", "hosts.lifetime", "ec2.dead_man", "ec2.lifetime",
)  # fmt: skip


def _contradictions(config: Config) -> list[tuple[str, ...]]:
    """(key, other keys that it contradicts, problem)."""
    found: list[tuple[str, ...]] = [(key, "must be longer than 0") for key in _durations_of_nothing(config)]
    if config.fleet.kind == "remote" and not config.store.url:
        found.append(("store.url", "fleet.kind", 'is required when fleet.kind is "remote"; write "s3://bucket/prefix"'))
    if config.store.url and not config.store.url.startswith(("s3://", "file:///")):
        found.append(("store.url", f"must begin with s3:// or file:///; got {config.store.url!r}"))
    found += _bad_placeholders(config.store.url)
    for section, key in (("store", "endpoint_url"), ("queues", "endpoint_url"), ("worker", "metadata_url")):
        url = getattr(getattr(config, section), key)
        if url and not url.startswith(("http://", "https://")):
            found.append((f"{section}.{key}", f"must begin with http:// or https://; got {url!r}"))
    if not 10 <= config.queues.lease.s <= 120:
        found.append(("queues.lease", f"must be between 10 s and 120 s; got {config.queues.lease!r}"))
    found += _contradictions_of_nodes(config)
    if config.coordinator.worker_silence.s < 2 * config.worker.heartbeat.s:
        problem = (
            f"must be at least twice worker.heartbeat ({config.worker.heartbeat}); it is {config.coordinator.worker_silence}"
        )
        found.append(("coordinator.worker_silence", "worker.heartbeat", problem))
    return found


def _bad_placeholders(url: str) -> list[tuple[str, ...]]:
    """What ``tilefleet.account`` would not put in."""
    rest = url.replace("{account}", "").replace("{region}", "")
    if not url.startswith("s3://"):
        return [("store.url", "may have {account} and {region} in it only after s3://")] if rest != url else []
    if "{" in rest or "}" in rest:
        return [("store.url", f"may have {{account}} and {{region}} in it, and no other braces; got {url!r}")]
    return []


_NOT_IN_TAGS = re.compile(r"[^\w +=.:/@{}-]")  # braces: of placeholders, which are put in before


def _contradictions_of_nodes(config: Config) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    nodes = config.nodes
    if nodes.provider != "none" and config.fleet.kind != "remote":
        found.append(("nodes.provider", "fleet.kind", f'"{nodes.provider}" needs fleet.kind = "remote"'))
    if nodes.provider == "hosts" and not config.hosts.addresses:
        found.append(("hosts.addresses", "nodes.provider", 'is required when nodes.provider is "hosts"; name the machines'))
    if nodes.provider == "hosts" and nodes.transport == "ssm":
        found.append(("nodes.transport", "nodes.provider", 'must be "ssh" for hosts: Systems Manager knows EC2 instances'))
    if nodes.provider == "hosts" and nodes.coordinator == "node" and not config.hosts.coordinator:
        found.append(("hosts.coordinator", "nodes.coordinator", "names the coordinator's machine, which nodes.coordinator wants"))
    if 0 < nodes.max_nodes < nodes.min_nodes:
        found.append(("nodes.max_nodes", "nodes.min_nodes", f"must be at least nodes.min_nodes ({nodes.min_nodes}), or 0"))
    if nodes.provider == "ec2" and not config.ec2.instance_types:
        found.append(("ec2.instance_types", "nodes.provider", 'name at least one, such as ["c7i.xlarge"]'))
    if nodes.provider == "ec2" and (bad := "".join(dict.fromkeys(_NOT_IN_TAGS.findall(config.store.url)))):
        problem = f"is written into tags of what a fleet makes, and AWS takes no {' '.join(bad)} there; name another prefix"
        found.append(("store.url", "nodes.provider", problem))
    if nodes.provider == "ec2" and nodes.transport == "ssh" and config.ec2.address == "private" and _is_ours_to_open(config):
        problem = 'says who comes to the private addresses that ec2.address wants, such as "10.0.0.0/16" for a whole VPC'
        found.append(("ec2.ssh_from", "ec2.address", problem))
    return found


def _is_ours_to_open(config: Config) -> bool:
    """Whether port 22 is opened by a group of ours, for nobody that was named."""
    return not config.ec2.security_group and not config.ec2.ssh_from


def _durations_of_nothing(config: Config) -> list[str]:
    sections = msgspec.structs.asdict(config).items()
    values = {f"{name}.{key}": value for name, section in sections for key, value in msgspec.structs.asdict(section).items()}
    return [key for key, value in values.items() if isinstance(value, Duration) and value.s == 0 and key not in _MAY_BE_ZERO]


def _first_line_of(text: str, keys: list[str]) -> int:
    return next((line for key in keys if (line := _line_of(text, *key.split(".")))), 0)


def _line_of(text: str, section: str, key: str | None = None) -> int:
    """1-based line of a section's header or of a key in it; 0 when it is not found."""
    current = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            current = header[1].strip("\"'")
            if key is None and current == section:
                return number
        elif (key is not None and current == section and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line)) or re.match(
            rf"\s*{re.escape(section)}\s*(\.\s*{re.escape(key or '')}\s*)?=", line
        ):
            return number
    return 0
