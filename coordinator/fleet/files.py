"""What a fleet keeps on the machine that ``tilefleet fleet`` is used on: keys, pinned host keys, its coordinator's files.

Everything is readable by its owner only. Nothing here is needed to take a fleet down from another machine but credentials.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from tilefleet.errors import NotAllowed


class FleetFiles:
    """Paths of one fleet, by its name."""

    def __init__(self, fleet: str) -> None:
        root = Path(os.environ["TILEFLEET_STATE"]) if os.environ.get("TILEFLEET_STATE") else user_data_path("tilefleet")
        self.root = root / "fleets" / fleet
        self.private_key = self.root / "id_ed25519"
        self.public_key = self.root / "id_ed25519.pub"
        self.known_hosts = self.root / "known_hosts"
        """For ``ssh`` by hand and for people; the pinned keys themselves lie in the node records."""
        self.coordinator_config = self.root / "coordinator.toml"
        self.coordinator_log = self.root / "coordinator.log"
        self.coordinator_lock = self.root / "coordinator.lock"

    def make(self) -> None:
        """Create the directory, 0700. Raises NotAllowed with the way out when that is impossible."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise NotAllowed(
                f"the fleet's directory {self.root} cannot be used: {error.strerror or error}; name another with TILEFLEET_STATE"
            ) from error


def cache_dir() -> Path:
    """Where what nodes are set up from is kept between runs; may be removed at any time."""
    if os.environ.get("TILEFLEET_STATE"):
        return Path(os.environ["TILEFLEET_STATE"]) / "cache"
    return user_cache_path("tilefleet")
