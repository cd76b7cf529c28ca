"""The service manager's notification protocol, by which a daemon says that it is ready, alive, or stopping.

One unix datagram per message to the socket named by ``$NOTIFY_SOCKET``; see sd_notify(3). systemd listens there for the
daemons of a fleet, the supervisor for those of an embedded deployment.
"""

from __future__ import annotations

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(state: str) -> bool:
    """Send newline-separated assignments such as ``READY=1`` or ``STATUS=…``.

    False, and no error, when nobody listens or the listener's buffer is full: a daemon must not fail or block because
    its manager is slow.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract namespace
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(0.1)  # blocks only while the listener's buffer is full
        channel.sendto(state.encode(), address)
        return True
    return False


def watchdog_interval_s() -> float | None:
    """How often to send WATCHDOG=1: half of what the manager allows, as sd_watchdog_enabled(3) advises; None: not at all."""
    text = os.environ.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(text) / 2e6 or None
