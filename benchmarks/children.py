"""Peers as child processes: started warm, asked one step at a time, with what CPU time and memory they took.

The rule: nothing of one peer's run is in another's process, and a peer that fails or hangs costs the bench only itself.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks import places
from benchmarks.surroundings import environment

START_DEADLINE_S = 180.0
STEP_DEADLINE_S = 1200.0
END_DEADLINE_S = 60.0


class PeerFailedError(Exception):
    """A peer did not start, did not answer, or said what went wrong."""


class Child:
    """One peer's process. In ``with``, so that it ends."""

    def __init__(self, name: str, options: dict[str, Any] | None = None, variables: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = (places.LOGS / f"{name}.log").open("a", encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.peers.host", name, json.dumps(options or {})]
        self._process = subprocess.Popen(
            command, cwd=places.WORK, env=environment(**(variables or {})), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip
        self._watched = [self._process.pid]
        try:
            self._watched += self._read(START_DEADLINE_S)["processes"]
        except PeerFailedError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def do(self, kind: str, a: str = "", b: str = "", out: str = "", **more: Any) -> dict[str, Any]:
        """One step: ``s``, ``parts_s``, ``facts``, and the CPU time of the peer and of the whole machine."""
        peer_s, machine_s = self._cpu_s(), machine_cpu_s()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"kind": kind, "a": a, "b": b, "out": out, "more": more}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailedError(f"{self.name} is gone; {self._log.name} says why") from None
        answer = self._read(STEP_DEADLINE_S)
        if "error" in answer:
            raise PeerFailedError(answer["error"])
        cpu_s = self._cpu_s() - peer_s
        return answer | {"cpu_s": cpu_s, "others_cpu_s": max(0.0, machine_cpu_s() - machine_s - cpu_s)}

    def close(self) -> None:
        """End it: it is asked to, then made to."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(END_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def tree(self) -> list[psutil.Process]:
        """Its processes, and all of the daemons that it named."""
        found: dict[int, psutil.Process] = {}
        for pid in self._watched:
            try:
                process = psutil.Process(pid)
                found |= {one.pid: one for one in [process, *process.children(recursive=True)]}
            except psutil.NoSuchProcess:
                continue
        return list(found.values())

    def _cpu_s(self) -> float:
        total = 0.0
        for process in self.tree():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def _read(self, deadline_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], deadline_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            what = "did not answer in time" if not ready else "ended"
            self._process.kill()
            raise PeerFailedError(f"{self.name} {what}; the end of {self._log.name} says more")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def standing_still(children: Iterable[Child]) -> Iterator[None]:
    """The processes of these peers stop meanwhile: idle ones took up to a third of a core from whoever was measured.

    Not those of tilefleet, which take a fiftieth: queues that stop for longer than a poll lasts answer polls that are given up.
    """
    stopped = []
    try:
        for process in [process for child in children if child.name != "tilefleet" for process in child.tree()]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
                stopped.append(process)
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def machine_cpu_s() -> float:
    """Processor time that the whole machine has spent."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def breathe(seconds: float = 0.2) -> None:
    """Between runs: what the one before left over (threads that spin, pages to free) is not the next one's."""
    time.sleep(seconds)
