"""A person with a fleet of nodes and the ``tilefleet`` command: a config file, credentials, a state directory of their own.

The rule: everything is said as a person says it, to real processes; nothing of the fleet's code is called.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.conftest import ACCESS_KEY, SECRET_KEY, Server, unique
from tests.nodes.image import CACHE
from tests.nodes.machines import Network, Node

COMMAND = [sys.executable, "-P", "-m", "coordinator.cli.main"]
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}
PACKAGES = CACHE / "packages"  # what nodes are set up from is fetched once for all persons
UP_TIMEOUT_S = 300.0  # the first fleet of a machine downloads 60 MB of packages


class Person:
    """Says commands about one fleet."""

    def __init__(
        self, directory: Path, network: Network, nodes: Iterable[Node], cloud: Server, /, **sections: dict[str, Any]
    ) -> None:
        """``sections``: more of the configuration."""
        self.directory = directory
        self.name = unique("fleet")
        self.bucket = cloud.new_bucket()
        self.config = directory / "fleet.toml"
        self.sources = Path(__file__).parents[2]
        """Of the tilefleet that the person has installed."""
        nodes = list(nodes)
        (directory / "state").mkdir()
        PACKAGES.mkdir(parents=True, exist_ok=True)
        (directory / "state" / "cache").symlink_to(PACKAGES)
        (directory / "known_hosts").write_text("".join(node.known_hosts.read_text() for node in nodes), encoding="utf-8")
        (directory / "keys").write_text("".join(f"{name}={value}\n" for name, value in KEYS.items()), encoding="utf-8")
        told: dict[str, dict[str, Any]] = {
            "fleet": {"name": self.name, "kind": "remote"},
            "store": {"url": f"s3://{self.bucket}/tiles", "endpoint_url": cloud.endpoint_url},
            "queues": {"endpoint_url": cloud.endpoint_url},
            "nodes": {"provider": "hosts"},
            "ssh": {"key_file": str(network.private_key), "known_hosts": "known_hosts", "agent": False},
            "hosts": {"addresses": [f"{node.user}@{node.address}" for node in nodes], "environment_file": "keys"},
        }
        for section, values in sections.items():
            told.setdefault(section, {}).update(values)
        self.configure(told)

    @classmethod
    def of_ec2(cls, directory: Path, network: Network, cloud: Server, **sections: dict[str, Any]) -> Person:
        """One who has an account instead of machines: everything is made by the fleet, but ``place``."""
        person = cls(directory, network, [], cloud)
        told: dict[str, dict[str, Any]] = {
            "fleet": {"name": person.name, "kind": "remote"},
            "store": {"url": f"s3://{person.name}-store/tiles", "endpoint_url": cloud.endpoint_url},
            "queues": {"endpoint_url": cloud.endpoint_url, "lease": "10 s"},
            "coordinator": {"beacon": "1 s", "worker_silence": "6 s"},
            "worker": {"heartbeat": "2 s"},
            "nodes": {"provider": "ec2", "count": 2},
            "ssh": {"agent": False},
            "ec2": {"endpoint_url": cloud.endpoint_url, "ssh_from": f"{network.address}/32"},
        }
        for section, values in sections.items():
            told.setdefault(section, {}).update(values)
        person.configure(told)
        return person

    def configure(self, told: dict[str, dict[str, Any]]) -> None:
        """Write the configuration."""
        self.told = told
        lines = [f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in told[name].items()) for name in told]
        self.config.write_text("\n".join(lines), encoding="utf-8")

    def say(
        self, *words: str, status: int | None = 0, timeout_s: float = 120.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command line to its end. ``status``: the exit code that it must have; None: any."""
        done = subprocess.run(
            [*COMMAND, *words], cwd=self.directory, env=self.environment, capture_output=True, text=True, input=stdin,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        if status is not None:
            assert done.returncode == status, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def told_by(self, *words: str, timeout_s: float = 120.0) -> Any:
        """The document of a command with ``--json``."""
        return json.loads(self.say(*words, "--json", timeout_s=timeout_s).stdout)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command that goes on."""
        return subprocess.Popen(
            [*COMMAND, *words], cwd=self.directory, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **KEYS,
            "TILEFLEET_CONFIG": str(self.config),
            "TILEFLEET_STATE": str(self.directory / "state"),
            "PYTHONPATH": str(self.sources),
        }

    def place(self, name: str) -> str:
        """URL of a file in the person's bucket, outside the fleet's own prefix."""
        return f"s3://{self.bucket}/mine/{name}"
