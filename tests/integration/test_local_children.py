"""Supervision of one process, with small real processes that behave badly in known ways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.runtime.children import LOG_LIMIT_BYTES, Child, pause_s, rotate, sentence_in
from coordinator.runtime.embedded import ChildSpec
from tilefleet.errors import BadConfig, TilefleetError, Unreachable

DEADLINE_S = 20
READY = "from tilefleet import parent, sd_notify; parent.watch_parent(); sd_notify.notify('READY=1'); "
SLEEP = "import time; time.sleep(60)"


class Bench:
    """Starts children whose program is a Python text, and ends them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.read_end, self.write_end = os.pipe()

    def start(self, program: str) -> tuple[Child, asyncio.Task[None]]:
        name = f"c{len(self._children)}"
        spec = ChildSpec(name, ("-P", "-c", program), dict(os.environ))
        child = Child(spec, self._directory / f"{name}.log", self._directory / f"{name}.sock", self.read_end)
        task = asyncio.create_task(child.run(), name=name)
        self._children.append(child)
        self._tasks.append(task)
        return child, task

    async def end(self) -> None:
        for child in self._children:
            await child.stop(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for descriptor in (self.read_end, self.write_end):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.end()


async def ready(child: Child) -> int:
    await asyncio.wait_for(child.ready.wait(), DEADLINE_S)
    assert child.process is not None
    return child.process.pid


async def test_ready_means_that_the_child_said_so(bench: Bench) -> None:
    silent, _ = bench.start(SLEEP)
    child, _ = bench.start(READY + SLEEP)
    await ready(child)
    assert not silent.ready.is_set()


async def test_a_killed_child_starts_again(bench: Bench) -> None:
    child, task = bench.start(READY + SLEEP)
    first = await ready(child)
    os.kill(first, signal.SIGKILL)
    while child.ready.is_set():  # noqa: ASYNC110 - the event's end has no event
        await asyncio.sleep(0.01)
    assert await ready(child) != first
    assert not task.done()


async def test_bad_configuration_is_final_and_told_in_the_childs_words(bench: Bench) -> None:
    _, task = bench.start("import sys; print('x.toml:3: worker.cores: must be at least 0', file=sys.stderr); sys.exit(10)")
    with pytest.raises(BadConfig, match=r"^x\.toml:3: worker\.cores: must be at least 0$"):
        await asyncio.wait_for(task, DEADLINE_S)


async def test_a_child_that_never_gets_ready_is_given_up_with_its_last_lines(bench: Bench) -> None:
    _, task = bench.start('import sys; print(\'first\'); print(\'{"event": "x", "error": "no such bucket"}\'); sys.exit(7)')
    with pytest.raises(Unreachable, match=r"c0 of .* status 7: no such bucket; the end of .*c0\.log") as caught:
        await asyncio.wait_for(task, DEADLINE_S)
    assert "first" in str(caught.value)


async def test_stop_asks_first(bench: Bench) -> None:
    program = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('drained'), sys.exit(0))); " + READY + SLEEP
    child, task = bench.start(program)
    await ready(child)
    await child.stop(DEADLINE_S)
    await asyncio.wait_for(task, DEADLINE_S)
    assert "drained" in child.log.read_text()


async def test_stop_kills_what_does_not_listen(bench: Bench) -> None:
    child, task = bench.start("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + SLEEP)
    await ready(child)
    await child.stop(0.1)
    await asyncio.wait_for(task, DEADLINE_S)
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL


async def test_stop_while_the_child_waits_to_be_restarted(bench: Bench) -> None:
    child, task = bench.start("raise SystemExit(1)")
    while child.process is None or child.process.returncode is None:  # noqa: ASYNC110 - its end has no event
        await asyncio.sleep(0.01)
    await child.stop(DEADLINE_S)
    with contextlib.suppress(TilefleetError):
        await asyncio.wait_for(task, DEADLINE_S)
    assert child.process is not None
    assert child.process.returncode is not None


async def test_a_child_leaves_when_the_parent_pipe_closes(bench: Bench) -> None:
    child, _ = bench.start(READY + SLEEP)
    await ready(child)
    process = child.process
    assert process is not None
    os.close(bench.write_end)
    assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 70


def test_pauses_grow_to_a_limit() -> None:
    assert [pause_s(n) for n in range(1, 9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_log_is_bounded_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("ab") as writer:
        writer.write(b"a" * (LOG_LIMIT_BYTES + 1))
        writer.flush()
        rotate(log)
        writer.write(b"next\n")
    assert log.read_bytes() == b"next\n"
    assert (tmp_path / "x.log.1").stat().st_size == LOG_LIMIT_BYTES + 1


def test_the_last_words_of_a_process() -> None:
    assert sentence_in(['{"event": "a", "error": "disk full"}', '{"event": "b"}']) == "disk full"
    assert sentence_in(["Traceback", "ValueError: 3"]) == "ValueError: 3"
    assert sentence_in([]) == ""
