"""Messages that are not ours: to the dead-letter queue, with the reason, where a person can look at them."""

from __future__ import annotations

import structlog

from tilefleet import queues as port
from tilefleet.errors import TilefleetError

log = structlog.get_logger()


async def reject(queues: port.Queues, message: port.Received, reason: str) -> None:
    """Move a job message away. If that fails, it comes back and is rejected again."""
    log.warning("message_rejected", queue=queues.jobs.name, reason=reason, body=message.body[:200])
    try:
        await port.reject(queues, queues.jobs, message, reason)
    except TilefleetError as error:
        log.warning("rejection_failed", error=str(error))
