"""What comes on the coordinator's standard input is taken as from its queue: what nobody can read is refused, no more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from coordinator.runtime.listeners import Listeners


@pytest.mark.parametrize("line", [b"\xff\xfe", "é".encode() * 300, b'{"type": "shout"}', b"{"])
async def test_a_line_nobody_can_read_is_refused_and_the_next_is_heard(line: bytes) -> None:
    nothing: Any = None
    ears = Listeners(nothing, nothing, "here", nothing, nothing, asyncio.Event(), set(), nothing)
    reader = asyncio.StreamReader()
    reader.feed_data(line + b"\n" + line + b"\n")
    reader.feed_eof()
    with capture_logs() as logs:
        await ears.lines(reader)
    assert [entry["event"] for entry in logs] == ["message_refused"] * 2
