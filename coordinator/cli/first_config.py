"""What ``tilefleet init`` asks, and the annotated configuration it writes. Every text it can write passes ``config check``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import typer

from tilefleet.errors import BadInput


class Question(NamedTuple):
    """One answer the file needs; ``{name}`` in the text."""

    name: str
    prompt: str
    proposal: str


KINDS = ("local", "aws", "learner-lab", "hosts")

_FLEET = Question("fleet", "Name of the fleet (a–z, 0–9, -)", "tilefleet")
_STORE = Question(
    "store",
    "S3 bucket for the tiles, made where it is missing ({account}: your account's number)",
    "s3://tilefleet-{account}-{region}/tilefleet",
)
_REGION = Question("region", "AWS region", "us-east-1")
_NODES = Question("nodes", "Worker nodes", "2")

QUESTIONS: Mapping[str, tuple[Question, ...]] = {
    "local": (
        Question("workers", "Worker processes on this machine", "2"),
        Question("memory", 'Memory for each ("0": a quarter of this machine, shared out)', "0"),
    ),
    "aws": (
        _FLEET,
        _REGION,
        _STORE,
        _NODES,
        Question("types", "Instance types in order of preference", "c7i.xlarge c6i.xlarge c7a.xlarge"),
        Question("market", "on-demand, spot or spot-or-on-demand", "on-demand"),
        Question("budget", "End the fleet when its machines have cost so many US dollars (0: no limit)", "20"),
    ),
    "learner-lab": (_FLEET._replace(proposal="lab"), _NODES._replace(prompt="Worker nodes (7 at most)", proposal="4")),
    "hosts": (
        _FLEET._replace(proposal="hosts"),
        Question("addresses", "Machines as user@address:port, separated by blanks (empty: you start the daemons yourself)", ""),
        _STORE._replace(prompt="Object store for the tiles: s3://bucket/prefix", proposal="s3://my-bucket/tilefleet"),
        _REGION,
        Question("endpoint", "Endpoint of an S3-compatible store (empty for AWS)", ""),
        Question("queues", "Endpoint of an SQS-compatible service (empty for AWS)", ""),
    ),
}
_FIXED = {  # a Learner Lab's terms
    "learner-lab": {
        "region": "us-east-1",
        "store": "s3://tilefleet-{account}-{region}/lab",
        "types": "m5.large c5.large t3.large",
    }
}

_LOCAL = """\
# tilefleet on this machine: the embedded deployment, started when a command needs it and stopped afterwards.
# Every setting: docs/reference/config.md. Check changes with: tilefleet config check FILE

[fleet]
kind = "local"
keep_results = "7 d"        # how long results without -o are kept

[local]
workers = {workers}                 # workerd processes; the cores are shared out among them
memory = "{memory}"                # for each process, such as "2 GiB"; "0": a quarter of the machine, shared out
# state_dir = "/data/tilefleet"  # store, logs and sockets; the user's data directory when left out

[log]
level = "info"
"""

_FLEET_SECTION = """\
[fleet]
name = "{fleet}"                # prefix of the queues, and the tag on everything that is made
kind = "remote"
keep_results = "7 d"        # how long results without -o are kept, and paid for

"""

_NODES_SECTION = """\
[nodes]
provider = "ec2"
count = {nodes}                   # worker nodes
coordinator = "{coordinator}"        {coordinator_says}
max_cost_usd = {budget}         # the fleet ends when its machines have cost this much; 0: no limit

[ec2]
instance_types = {types}
market = "{market}"
image = "al2023"            # Amazon Linux 2023
volume = "16 GiB"           # encrypted
dead_man = "30 m"           # a node that hears no coordinator for so long terminates itself
lifetime = "{lifetime}"            # and after this in any case
{lab}
"""

_LAB = """\
instance_profile = "LabInstanceProfile"
key_name = "vockey"
max_instances = 8           # all instances of the account count; at 20 a Learner Lab is deactivated

[ssh]
key_file = "~/.ssh/labsuser.pem"   # from "AWS Details", "Download PEM"; then: chmod 600 ~/.ssh/labsuser.pem
"""

_HOSTS_SECTION = """\
[nodes]
provider = "hosts"

[hosts]
addresses = {addresses}
# environment_file = "aws.env"   # AWS_ACCESS_KEY_ID=… and so on, for machines that have no role; copied for root alone

[ssh]
# user = "ubuntu"           # who logs in, with sudo and no password; your own name when left out
# key_file = "~/.ssh/id_ed25519"

"""

_SERVICES = """\
[store]
url = "{store}"
region = "{region}"
{store_endpoint}
[queues]
region = "{region}"
{queue_endpoint}lease = "60 s"              # jobs of a worker that dies come back after this

[coordinator]
job_target = "20 s"         # no job is planned longer than this

[worker]
memory = "0"                # bytes one workerd may use; "0": half of its machine

[log]
level = "info"
"""

_ALSO = "# Every setting: docs/reference/config.md. Check changes with: tilefleet config check FILE\n\n"
_HEADS = {
    "aws": """\
# tilefleet in your AWS account. Credentials come from the environment or ~/.aws; never write them here.
# tilefleet doctor looks at everything and costs nothing; tilefleet fleet up says what it costs, and asks;
# tilefleet fleet down removes what was made. How-to: docs/how-to/first-aws-run.md
""",
    "learner-lab": """\
# tilefleet in an AWS Academy Learner Lab. Credentials: "AWS Details", "AWS CLI", into ~/.aws/credentials, each time the lab
# starts; never write them here. What runs takes new ones over by itself. How-to: docs/how-to/learner-lab.md
""",
    "hosts": """\
# tilefleet on machines that exist already. Credentials come from the environment or ~/.aws; never write them here.
# With addresses: tilefleet fleet up sets them up by SSH. Without: run "coordinator --config FILE" on one of them and
# "workerd --config FILE" on each. How-to: docs/how-to/hosts.md
""",
}


_WHERE = """\
Where shall the work be done?
  local        on this machine
  aws          on instances that are made in your AWS account
  learner-lab  the same in an AWS Academy Learner Lab
  hosts        on machines that exist already"""


def ask_kind(*, is_asking: bool) -> str:
    """Which of ``KINDS`` to write; without asking: local."""
    if not is_asking:
        return "local"
    typer.echo(_WHERE, err=True)
    answer: str = typer.prompt("Kind", default="local", err=True)
    if answer not in KINDS:
        raise BadInput(f"{answer!r} is none of {', '.join(KINDS)}")
    return answer


def ask(kind: str, *, is_asking: bool) -> dict[str, str]:
    """The answers for that kind; without asking: the proposals."""
    return {
        question.name: typer.prompt(question.prompt, default=question.proposal, err=True).strip()
        if is_asking
        else question.proposal
        for question in QUESTIONS[kind]
    }


def annotated(kind: str, answers: Mapping[str, str]) -> str:
    """The configuration as TOML with comments. Raises BadInput when an answer makes an impossible one."""
    from tilefleet.config import parse

    for name, answer in answers.items():
        if not answer.isprintable() or '"' in answer or "\\" in answer:
            raise BadInput(f"the answer {answer!r} for {name} has a character that does not belong in it")
    text = _LOCAL.format(**answers) if kind == "local" else _remote(kind, answers)
    _, mistakes = parse(text)
    if mistakes:
        raise BadInput("; ".join(f"{one.key} {one.problem}" if one.key else one.problem for one in mistakes))
    return text


def _remote(kind: str, answers: Mapping[str, str]) -> str:
    def line(name: str) -> str:
        return f'endpoint_url = "{answers[name]}"\n' if answers.get(name) else ""

    known = _FIXED.get(kind, {}) | dict(answers)
    sections = _FLEET_SECTION
    if kind in {"aws", "learner-lab"}:
        sections += _NODES_SECTION
    elif known["addresses"]:
        sections += _HOSTS_SECTION
    is_lab = kind == "learner-lab"
    values = {
        "market": "on-demand", "budget": "20" if not is_lab else "10", "coordinator": "here", "lab": _LAB if is_lab else "",
        "coordinator_says": '# "node": on a node of its own, so that this machine may be switched off',
        "lifetime": "4 h" if is_lab else "24 h",
    } | known  # fmt: skip
    values |= {name: json.dumps(known[name].replace(",", " ").split()) for name in ("types", "addresses") if name in known}
    values |= {"store_endpoint": line("endpoint"), "queue_endpoint": line("queues")}
    return _HEADS[kind] + _ALSO + _aligned((sections + _SERVICES).format(**values))


def _aligned(text: str) -> str:
    """The comments behind settings in one column, as far as the settings let them."""
    lines = [line.partition("  # ") for line in text.splitlines()]
    return (
        "\n".join(f"{code.rstrip():<27} # {said}" if said and code else code + sign + said for code, sign, said in lines) + "\n"
    )
