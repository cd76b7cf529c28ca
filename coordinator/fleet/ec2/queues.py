"""The queues, made as the coordinator makes them, and marked with where the fleet's store is.

The rule: a queue of the same name that does not carry the fleet's tag is somebody else's, and stops everything: taking part in
it would eat other people's messages.
"""

from __future__ import annotations

from coordinator.fleet.ec2 import tags
from coordinator.fleet.ec2.account import Account, consistent
from coordinator.fleet.ports import Tell
from tilefleet.backoff import Backoff, persist
from tilefleet.bounded import for_each
from tilefleet.config import Config
from tilefleet.errors import AlreadyExists, NotFound, Unreachable
from tilefleet.sqs import DEAD_SUFFIX, SqsQueues

BARRED_S = 90.0  # SQS bars the name of a deleted queue for 60 s


async def ensure(account: Account, config: Config, tell: Tell) -> None:
    """Make what is missing and mend what differs."""
    names = [f"{config.fleet.name}-{which}" for which in ("operations", "jobs", "completions")]
    names += [name + DEAD_SUFFIX for name in names]
    before: dict[str, tags.Tags | None] = {}

    async def look(name: str) -> None:
        before[name] = await _tags(account, name)

    await for_each(names, look, concurrency=len(names), name="queues")
    for name, its in before.items():
        if its is not None and its.get(tags.FLEET) != config.fleet.name:
            raise AlreadyExists(
                f"the queue {name} exists and lacks the tag {tags.FLEET}={config.fleet.name}: it is not this fleet's; choose "
                "another fleet.name, or tag the queue if it is"
            )
    missing = [name for name in names if before[name] is None]
    async with SqsQueues(config.queues, config.fleet.name) as queues:
        await persist(queues.ensure, for_s=BARRED_S if missing else 0.0, backoff=Backoff(0.5, 8.0), is_worth_it=_may_pass)

    async def mark(name: str) -> None:
        if (before[name] or {}).get(tags.STORE) != config.store.url:
            await consistent(lambda: _mark(account, config, name))

    await for_each(names, mark, concurrency=len(names), name="queues")
    if missing:
        tell(f"made the queues {', '.join(sorted(missing))}")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, (Unreachable, NotFound))


async def _tags(account: Account, name: str) -> tags.Tags | None:
    """Tags of a queue; None when it does not exist."""
    try:
        return dict((await account.call("sqs", "list_queue_tags", QueueUrl=await _url(account, name))).get("Tags", {}))
    except NotFound:
        return None


async def _mark(account: Account, config: Config, name: str) -> None:
    mark = {tags.FLEET: config.fleet.name, tags.STORE: config.store.url}
    await account.call("sqs", "tag_queue", QueueUrl=await _url(account, name), Tags=mark)


async def _url(account: Account, name: str) -> str:
    return str((await account.call("sqs", "get_queue_url", QueueName=name))["QueueUrl"])
