"""Not a peer but a floor: the bytes of the operands read and the result's bytes written, by two processes' worth of threads."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.peers.contract import Step, Told

BUFFER_BYTES = 8 << 20


class WithCopies:
    def warm(self) -> None:
        self._threads = ThreadPoolExecutor(os.cpu_count())

    def do(self, step: Step) -> Told:
        """Reads A, and copies B's files to OUT: the traffic of a sum, without the sum."""
        out = Path(step.out)
        out.mkdir(parents=True)
        jobs = [self._threads.submit(_read, file) for file in _files(Path(step.a))]
        jobs += [self._threads.submit(_copy, file, out / file.relative_to(step.b)) for file in _files(Path(step.b))]
        for job in jobs:
            job.result()
        return Told()

    def processes(self) -> list[int]:
        return []

    def close(self) -> None:
        self._threads.shutdown()


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def _read(file: Path) -> None:
    buffer = bytearray(BUFFER_BYTES)
    with file.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


def _copy(file: Path, to: Path) -> None:
    """Through memory, as whoever computes must have it there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    with file.open("rb", buffering=0) as source, to.open("wb", buffering=0) as target:
        while n := source.readinto(buffer):
            target.write(view[:n])


def remove(out: str) -> None:
    shutil.rmtree(out, ignore_errors=True)


def make(_name: str, _options: dict[str, Any]) -> WithCopies:
    return WithCopies()
