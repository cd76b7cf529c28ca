"""tilefleet: a warm embedded deployment, measured from the Python client. Results are checked by it before they are stored,
which stays on.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import matrices, places
from benchmarks.peers.contract import Step, Told


class WithTilefleet:
    """``options``: ``state`` (a name), ``workers``, ``memory`` (a size, for each), ``log`` (a level)."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._state = places.STATES / str(options.get("state", "tilefleet"))
        self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._config = self._state.with_suffix(".toml")
        self._n_workers = int(options.get("workers", 2))
        lines = ["[local]", f"workers = {self._n_workers}"]
        lines += [f'memory = "{options["memory"]}"'] if "memory" in options else []
        lines += ["[log]", f'level = "{options["log"]}"'] if "log" in options else []
        self._config.write_text("\n".join([*lines, *_store_lines()]) + "\n")
        self._client: Any = None

    def warm(self) -> None:
        import numpy as np

        os.environ["TILEFLEET_STATE"] = str(self._state)
        import tilefleet

        self._client = tilefleet.connect(config_path=self._config)
        small = np.ones((64, 64))
        for _ in range(3):
            self._client.multiply(small, small).wait()
        self._workers = self._listed()

    def _listed(self) -> list[dict[str, Any]]:
        """The workers as the coordinator lists them, once its beacon has told of all."""
        for _ in range(100):
            workers = self._client.control().workers
            if len(workers) == self._n_workers:
                break
            time.sleep(0.1)
        return [{"memory_bytes": one.memory_bytes, "cores": one.cores, "flops_per_s": one.flops_per_s} for one in workers]

    def do(self, step: Step) -> Told:
        if step.kind == "small":
            return self._small(step.more["n"])
        if step.kind == "command":
            return self._command(step.more["arguments"])
        began_at = datetime.datetime.now(datetime.UTC).isoformat()
        operation = getattr(self._client, step.kind)(*self._operands(step), **self._arguments(step))
        status = operation.wait()
        return Told(dict(status.phases_s), self._facts(operation.id, status) | {"began_at": began_at})

    def _small(self, n: int) -> Told:
        """Arrays in, an array out."""
        import numpy as np

        a = np.arange(n * n, dtype=np.float64).reshape(n, n)
        operation = self._client.multiply(a, a)
        result = operation.result() if operation.wait() else None
        assert np.allclose(np.asarray(result), a @ a)
        return Told()

    def _command(self, arguments: list[str]) -> Told:
        """As typed into a shell; prints to the log."""
        command = [str(Path(sys.executable).with_name("tilefleet")), "--config", str(self._config), *arguments]
        subprocess.run(command, check=True, env=os.environ, stdout=sys.stderr)
        return Told()

    def _operands(self, step: Step) -> list[str]:
        return [item for item in (step.a, step.b) if item]

    def _arguments(self, step: Step) -> dict[str, Any]:
        given: dict[str, Any] = {"out": step.out} if step.out else {}
        if step.out.endswith(".zarr") and step.more.get("shape"):
            given["tile"] = matrices.chunks(tuple(step.more["shape"]), step.more["dtype"])
        return given

    def _facts(self, operation: str, status: Any) -> dict[str, Any]:
        import msgspec

        return {"operation": operation, "predicted_s": status.predicted_s, "totals": msgspec.structs.asdict(status.totals),
                "stages": [msgspec.structs.asdict(stage) for stage in status.stages], "workers": self._workers}  # fmt: skip

    def processes(self) -> list[int]:
        deployment = json.loads((self._state / "run" / "deployment.json").read_text())
        return [deployment["pid"]]  # the daemons are its children

    def close(self) -> None:
        self._client.close()
        command = [str(Path(sys.executable).with_name("tilefleet")), "--config", str(self._config), "local", "down"]
        subprocess.run(command, check=False, env=os.environ | {"TILEFLEET_STATE": str(self._state)}, stdout=sys.stderr)


def _store_lines() -> list[str]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3")
    return ["[store]", f'endpoint_url = "{endpoint}"', 'region = "us-east-1"'] if endpoint else []


def make(_name: str, options: dict[str, Any]) -> WithTilefleet:
    return WithTilefleet(options)
