"""Logs: one JSON object per line on standard output, without secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOG = """
import structlog
from tilefleet import logs
logs.setup({level!r}, daemon="workerd", worker="node-1")
log = structlog.get_logger()
log.debug("poll")
log.info("job_done", job=3, secret_key="hunter2", nested={{"session_token": "hunter2", "list": [{{"Authorization": "hunter2"}}]}})
log.warning("odd", text="two\\nlines \\ud800")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("bug")
"""


def _lines(level: str) -> list[dict[str, object]]:
    done = subprocess.run([sys.executable, "-c", LOG.format(level=level)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_line_is_an_object_with_event_time_level_and_context() -> None:
    lines = _lines("debug")
    assert [line["event"] for line in lines] == ["poll", "job_done", "odd", "bug"]
    assert [line["level"] for line in lines] == ["debug", "info", "warning", "error"]
    assert all(line["daemon"] == "workerd" and line["worker"] == "node-1" and str(line["time"]).endswith("Z") for line in lines)
    assert "ZeroDivisionError" in str(lines[-1]["exception"])


@pytest.mark.parametrize(("level", "n_lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_lines_below_the_level_are_not_written(level: str, n_lines: int) -> None:
    assert len(_lines(level)) == n_lines


def test_secrets_are_cut_also_inside() -> None:
    line = _lines("info")[0]
    assert "hunter2" not in json.dumps(line)
    assert set(line) >= {"secret_key", "nested"}
    assert line["job"] == 3


FULL = """
import os, structlog, sys
from tilefleet import logs
logs.setup("info")
for _ in range(1000):
    structlog.get_logger().info("job_done", text="x" * 100)
logs.flush()
os._exit(75)  # as daemons do
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", FULL], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (75, "")
