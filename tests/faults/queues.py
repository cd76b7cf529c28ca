"""How much lies in a deployment's queues, by their own word."""

from __future__ import annotations

import asyncio

from tests.acceptance.deployment import Place
from tilefleet.local import local_queues
from tilefleet.sqs import SqsQueues


def messages(here: Place) -> dict[str, int]:
    """By queue, what waits in it or is held by somebody; dead letters, too. Empty queues are left out."""
    return asyncio.run(_messages(here))


async def _messages(here: Place) -> dict[str, int]:
    async with _queues(here) as queues:
        main = (queues.operations, queues.jobs, queues.completions)
        counts = {queue.name: sum(await queue.count()) for queue in (*main, *map(queues.dead, main))}
    return {name: n for name, n in counts.items() if n}


def _queues(here: Place) -> SqsQueues:
    config = here.config
    if config.fleet.kind == "remote":
        return SqsQueues(config.queues, config.fleet.name)
    deployment = here.deployment
    keys = (deployment.access_key, deployment.secret_key)
    return SqsQueues(local_queues(config, deployment.endpoint_url), config.fleet.name, credentials=keys)
