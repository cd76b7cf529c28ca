"""Messages that are not ours: to the dead-letter queue, with the reason, where a person can look at them."""

from __future__ import annotations

import msgspec
import structlog

from tilefleet.errors import TilefleetError
from tilefleet.queues import Received
from tilefleet.sqs import SqsQueues

log = structlog.get_logger()


async def reject(queues: SqsQueues, message: Received, reason: str) -> None:
    """Move a job message away. If that fails, it comes back and is rejected again."""
    log.warning("message_rejected", queue=queues.jobs.name, reason=reason, body=message.body[:200])
    try:
        await queues.dead(queues.jobs).send([msgspec.json.encode({"reason": reason, "body": message.body}).decode()])
        await queues.jobs.delete([message.handle])
    except TilefleetError as error:
        log.warning("rejection_failed", error=str(error))
