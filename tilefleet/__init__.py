"""Dense matrix computation on a fleet of ordinary machines: ``tilefleet.Client`` (async) and ``tilefleet.connect`` (blocking).

The rule: importing this package imports none of the libraries that cost start-up time; names are loaded when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tilefleet.version import __version__

if TYPE_CHECKING:
    from tilefleet import errors
    from tilefleet.blocking import BlockingClient, connect
    from tilefleet.client import Client
    from tilefleet.config import Config
    from tilefleet.errors import TilefleetError
    from tilefleet.lazy import LazyMatrix
    from tilefleet.operation import Operation
    from tilefleet.submission import Request

__all__ = [
    "BlockingClient", "Client", "Config", "LazyMatrix", "Operation", "Request", "TilefleetError", "__version__", "connect",
    "errors",
]  # fmt: skip

_HOMES = {
    "BlockingClient": "blocking", "Client": "client", "Config": "config", "LazyMatrix": "lazy", "Operation": "operation",
    "Request": "submission", "TilefleetError": "errors", "connect": "blocking",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("tilefleet.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'tilefleet' has no attribute {name!r}")
    value = getattr(import_module(f"tilefleet.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
