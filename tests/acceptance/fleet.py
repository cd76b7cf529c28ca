"""A fleet of daemons that a test starts itself: coordinators and workers as systemd would run them, on real stand-ins."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.deployment import QUICK, Place, place, until
from tests.conftest import Server, unique


class Fleet:
    """One configuration, its daemons (by the names of their logs), and the place of a client who uses it from afar."""

    def __init__(self, client: Place, config: Path) -> None:
        self.client = client
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._config = config

    def start(
        self, module: str, name: str, *options: str, inside: Sequence[str] = (), environment: dict[str, str] | None = None
    ) -> None:
        """``python -m <module>.daemon``; its log is <name>.log beside the configuration. ``inside``: a command that runs it."""
        command = [*inside, sys.executable, "-m", f"{module}.daemon", "--config", os.fspath(self._config), *options]
        with self.log(name).open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._config.parent, env=os.environ | (environment or {})
            )

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """Send a signal to a daemon; its exit status."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        return daemon.wait(timeout=60)

    def log(self, name: str) -> Path:
        return self._config.with_name(f"{name}.log")

    def logs(self) -> list[Path]:
        return sorted(self._config.parent.glob("*.log"))

    def events(self, name: str, event: str = "") -> list[dict[str, Any]]:
        """What a daemon has logged so far, one event of it or everything."""
        lines = self.log(name).read_text(encoding="utf-8").splitlines() if self.log(name).exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [line for line in found if event in ("", line["event"])]

    def close(self) -> None:
        for daemon in self.daemons.values():
            daemon.kill()
        for daemon in self.daemons.values():
            with contextlib.suppress(subprocess.SubprocessError):
                daemon.wait(timeout=10)


def fleet_config(store: Server, queues: Server, bucket: str) -> str:
    return f"""
[fleet]
name = "{unique("far")}"
kind = "remote"
[store]
url = "s3://{bucket}/fleet"
endpoint_url = "{store.endpoint_url}"
region = "us-east-1"
{QUICK.replace("[queues]", f'[queues]{chr(10)}endpoint_url = "{queues.endpoint_url}"{chr(10)}region = "us-east-1"')}
memory = "500 MiB"
cores = 1
"""


@contextmanager
def fleet(directory: Path, config: str, *workers: str) -> Iterator[Fleet]:
    """A coordinator and workers of these names; all of them end with the block."""
    daemons = directory / "daemons"
    daemons.mkdir()
    (daemons / "fleet.toml").write_text(config, encoding="utf-8")
    (directory / "client").mkdir()
    with place(directory / "client", config) as client:
        made = Fleet(client, daemons / "fleet.toml")
        try:
            made.start("coordinator", "coordinator")
            for name in workers:
                made.start("workerd", name, "--name", name)
            until(lambda: all("worker_ready" in made.log(name).read_text() for name in workers), "the workers are ready")
            yield made
        finally:
            made.close()
