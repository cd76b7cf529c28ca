"""A supervised process never outlives its supervisor, however that one ends.

The supervisor alone holds the write end of a pipe and never writes to it; each child inherits the read end. When the
supervisor is gone, even by SIGKILL, the kernel closes the write end and the child reads end-of-file. This works alike on
Linux and macOS, unlike ``prctl(PR_SET_PDEATHSIG)``, which also fires when only the parent's *thread* ends.
"""

from __future__ import annotations

import os
import threading

VARIABLE = "TILEFLEET_PARENT_FD"
EXIT_STATUS = 70  # documented in docs/reference/cli.md: the parent is gone


def watch_parent() -> bool:
    """Leave the process at once (status 70) when the supervisor ends. False, and no effect, when nobody supervises it.

    Call it first thing in ``main``. The variable is taken out of the environment, so that it means nothing to children.
    """
    text = os.environ.pop(VARIABLE, "")
    if not text.isdecimal():
        return False
    descriptor = int(text)
    try:
        os.set_inheritable(descriptor, False)
    except OSError:
        os._exit(EXIT_STATUS)  # told that there is a parent to watch, but its pipe is not there
    threading.Thread(target=_leave_at_end, args=(descriptor,), name="watch-parent", daemon=True).start()
    return True


def _leave_at_end(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1):
            pass
    finally:
        os._exit(EXIT_STATUS)  # at once: a drain would need the coordinator and queues that are just dying too
