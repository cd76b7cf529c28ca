"""Structured logs: one JSON object per line on standard output, a stable ``event`` name, bound context.

docs/reference/log-events.md lists every event. Secrets never reach a logger: values under names that hold them are cut.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

_SECRET_NAMES = ("secret", "token", "password", "authorization", "credential", "access_key")


def setup(level: str, **context: Any) -> None:
    """Configure structlog for a daemon; ``context`` is bound to every line."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _cut_secrets,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**context)


def _cut_secrets(_logger: Any, _method: str, event: Any) -> Any:
    for key in event:
        if any(name in key.lower() for name in _SECRET_NAMES):
            event[key] = "(cut)"
    return event
