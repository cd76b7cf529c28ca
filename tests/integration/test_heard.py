"""The sign for the dead-man switch, from the real daemons: a coordinator that leads is heard on its own node and on others."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.integration.coordinator_process import scene
from tests.integration.workerd_process import scene as worker_scene
from tilefleet.heard import NAME

pytestmark = pytest.mark.thorough


async def test_it_is_given_while_a_coordinator_leads_and_not_after(
    tmp_path: Path, fleet: str, moto_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {name: tmp_path / name for name in ("coordinator", "worker")}
    for directory in nodes.values():
        directory.mkdir()
    async with scene(tmp_path, fleet, moto_server.endpoint_url) as here:
        monkeypatch.setenv("STATE_DIRECTORY", str(nodes["coordinator"]))
        leader = here.start()
        async with worker_scene(tmp_path, fleet, moto_server.endpoint_url) as there:
            monkeypatch.setenv("STATE_DIRECTORY", str(nodes["worker"]))
            first = there.start(there.config("w1"))
            await there.until(lambda: all((directory / NAME).exists() for directory in nodes.values()))
            for process, number in ((first, signal.SIGTERM), (leader, signal.SIGKILL)):
                process.send_signal(number)
                await there.exit_status(process)
            (nodes["worker"] / NAME).unlink()
            late = there.start(there.config("w2"))  # which reads the dead leader's last words
            await there.until(lambda: any(line["event"] == "worker_ready" for line in there.log("w2")))
            late.send_signal(signal.SIGTERM)
            assert await there.exit_status(late) == 0
            assert not (nodes["worker"] / NAME).exists()
