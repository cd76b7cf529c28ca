"""What ``tilefleet init`` asks, and the annotated configuration it writes. Every text it can write passes ``config check``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import typer

from tilefleet.errors import BadInput


class Question(NamedTuple):
    """One answer the file needs; ``{name}`` in the text."""

    name: str
    prompt: str
    proposal: str


KINDS = ("local", "learner-lab", "hosts")

_FLEET = Question("fleet", "Name of the fleet (a–z, 0–9, -)", "tilefleet")
_STORE = Question("store", "Object store for the tiles: s3://bucket/prefix", "s3://my-bucket/tilefleet")
_REGION = Question("region", "AWS region", "us-east-1")

QUESTIONS: Mapping[str, tuple[Question, ...]] = {
    "local": (
        Question("workers", "Worker processes on this machine", "2"),
        Question("memory", 'Memory for each ("0": a quarter of this machine, shared out)', "0"),
    ),
    "learner-lab": (
        _FLEET._replace(proposal="lab"),
        _STORE._replace(prompt="S3 bucket that you made in the lab: s3://bucket/prefix", proposal="s3://my-lab-bucket/tilefleet"),
        _REGION._replace(prompt="Region (a Learner Lab allows us-east-1 and us-west-2)"),
    ),
    "hosts": (
        _FLEET._replace(proposal="hosts"),
        _STORE,
        _REGION,
        Question("endpoint", "Endpoint of an S3-compatible store (empty for AWS)", ""),
        Question("queues", "Endpoint of an SQS-compatible service (empty for AWS)", ""),
    ),
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

_REMOTE = """\
[fleet]
name = "{fleet}"                # prefix of the queues: {fleet}-operations, {fleet}-jobs, {fleet}-completions
kind = "remote"
keep_results = "7 d"        # how long results without -o are kept, and paid for

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

_HEADS = {
    "learner-lab": """\
# tilefleet in an AWS Academy Learner Lab. Credentials come from the environment or ~/.aws/credentials (paste the lab's
# "AWS CLI" text there, session token included, each time the lab starts); never write them here.
# The same file serves the client, "coordinator --config FILE" and "workerd --config FILE" on the instances.
# Every setting: docs/reference/config.md. Check changes with: tilefleet config check FILE

""",
    "hosts": """\
# tilefleet on machines that exist already: run "coordinator --config FILE" on one of them (or here) and
# "workerd --config FILE" on each. Credentials come from the environment or ~/.aws/credentials; never write them here.
# Every setting: docs/reference/config.md. Check changes with: tilefleet config check FILE

""",
}


def ask_kind(*, is_asking: bool) -> str:
    """Which of ``KINDS`` to write; without asking: local."""
    if not is_asking:
        return "local"
    typer.echo("Where shall the work be done?\n  local        on this machine\n  learner-lab  in an AWS Academy Learner Lab\n"
               "  hosts        on machines that exist already, or in any AWS account", err=True)  # fmt: skip
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
    text = _LOCAL.format(**answers) if kind == "local" else _HEADS[kind] + _REMOTE.format(**_with_endpoints(answers))
    _, mistakes = parse(text)
    if mistakes:
        raise BadInput("; ".join(f"{one.key} {one.problem}" if one.key else one.problem for one in mistakes))
    return text


def _with_endpoints(answers: Mapping[str, str]) -> dict[str, str]:
    def line(name: str) -> str:
        return f'endpoint_url = "{answers[name]}"\n' if answers.get(name) else ""

    return {**answers, "store_endpoint": line("endpoint"), "queue_endpoint": line("queues")}
