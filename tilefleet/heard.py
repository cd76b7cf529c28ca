"""The sign that a coordinator was heard, for the node's dead-man switch (systemd/tilefleet-deadman.sh): a file that is touched.

The rule: only a sign of life that is new counts. A worker that reads a dead leader's last words again has heard nobody.
"""

from __future__ import annotations

import os
from pathlib import Path

NAME = "heard"


def note_heard() -> None:
    """Touch the file in the service's state directory; without one, as in an embedded deployment, there is no switch."""
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not directory:
        return
    try:
        Path(directory, NAME).touch()
    except OSError:
        return  # a full disk: an existing file can be touched all the same, and the switch is on the safe side
