"""One case: every peer in turn, round after round, each result checked before its time counts.

The rule: order changes from round to round, inputs are in the page cache, outputs of the run before are gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import matrices, places
from benchmarks.checks import Expected, WrongResultError
from benchmarks.children import Child, PeerFailedError, breathe, standing_still
from benchmarks.matrices import Matrix
from benchmarks.peers.opening import open_array, store_of

Say = Callable[[str], None]
WARM_UP_FLOPS = 1e11  # what is shorter runs once before it counts


@dataclass
class Case:
    """What was measured: runs of each peer in the order of rounds, and why peers are missing."""

    name: str
    about: dict[str, Any]
    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, run: dict[str, Any]) -> None:
        self.runs.setdefault(peer, []).append(run)

    def times(self, peer: str, part: str | None = None) -> list[float]:
        """Seconds, of the whole or of one part."""
        return [run["parts_s"][part] if part else run["s"] for run in self.runs.get(peer, ())]


@dataclass(frozen=True)
class Operation:
    """``kind`` of two matrices, from stores to a store."""

    name: str
    kind: str
    a: Matrix
    b: Matrix

    @property
    def shape(self) -> tuple[int, int]:
        return (self.a.rows, self.b.cols)

    @property
    def flops(self) -> int:
        """Real operations; a complex multiplication and addition are eight."""
        per_pair = 8 if self.a.dtype.startswith("complex") else 2
        return per_pair * self.a.rows * self.a.cols * self.b.cols if self.kind == "multiply" else self.a.rows * self.a.cols

    def about(self) -> dict[str, Any]:
        return {"kind": self.kind, "m": self.a.rows, "k": self.a.cols, "n": self.b.cols, "dtype": self.a.dtype,
                "flops": self.flops, "bytes_in": self.a.nbytes + self.b.nbytes}  # fmt: skip


def measure(operation: Operation, children: Sequence[Child], rounds: int, say: Say) -> Case:
    """Run an operation on every child, ``rounds`` times; one more round before, which does not count."""
    a, b = (str(matrices.path_of(matrix)) for matrix in (operation.a, operation.b))
    return interleave(operation, children, rounds, say, (a, b), str(places.OUTPUTS))


def interleave(
    operation: Operation, children: Sequence[Child], rounds: int, say: Say, operands: tuple[str, str], outputs: str
) -> Case:
    """The same for operands that are somewhere; results appear below ``outputs``. Both may be ``s3://``."""
    case = Case(operation.name, operation.about())
    expected = Expected(operation.kind, *(open_array(url) for url in operands))
    for number in range(-1 if operation.flops < WARM_UP_FLOPS else 0, rounds):
        for child in in_turn(children, number):
            if child.name in case.failed:
                continue
            try:
                with standing_still(other for other in children if other is not child):
                    run = once(operation, child, operands, f"{outputs}/{child.name}.zarr", expected)
            except (PeerFailedError, WrongResultError) as error:
                case.failed[child.name] = str(error)
                say(f"  {child.name}: {error}")
                continue
            if number >= 0:
                case.add(child.name, run)
                say(f"  {operation.name}  {child.name:<13} {run['s']:8.3f} s   others on the machine {run['others_cpu_s']:.1f} s")
    return case


def in_turn(children: Sequence[Child], number: int) -> list[Child]:
    """All, beginning with another one in each round."""
    first = number % len(children)
    return [*children[first:], *children[:first]]


def once(operation: Operation, child: Child, operands: tuple[str, str], out: str, expected: Expected) -> dict[str, Any]:
    """One run, with a right result."""
    remove(out)
    matrices.warm(*(Path(url) for url in operands if not url.startswith("s3://")))
    os.sync()
    breathe()
    try:
        run = child.do(operation.kind, *operands, out, shape=operation.shape, dtype=operation.a.dtype)
        if child.name != "copy":
            expected.check(open_array(out))
        return run
    finally:
        remove(out)


def remove(url: str) -> None:
    """A result, wherever it is."""
    if not url.startswith("s3://"):
        shutil.rmtree(url, ignore_errors=True)
        return
    store = store_of(url).store
    for objects in store.list():
        store.delete([item["path"] for item in objects])
