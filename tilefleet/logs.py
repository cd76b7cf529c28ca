"""Structured logs: one JSON object per line on standard output, a stable ``event`` name, bound context.

docs/reference/log-events.md lists every event. Secrets never reach a logger: values under names that hold them are cut. A line
that cannot be written, as the disk is full, is lost; whoever logged it goes on.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
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
        logger_factory=structlog.WriteLoggerFactory(_Output()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,  # so that SIGHUP can change the level
    )
    structlog.contextvars.bind_contextvars(**context)


class _Output:
    """As much of standard output as a logger uses."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stdout.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stdout.flush()


def flush() -> None:
    """Write out what was logged and said, where there is room for it. Daemons end with it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()


def _cut_secrets(_logger: Any, _method: str, event: Any) -> Any:
    return _without_secrets(event)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "(cut)" if _is_secret(str(key)) else _without_secrets(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(item) for item in value]
    return value


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET_NAMES)
