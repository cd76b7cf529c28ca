"""One case: every peer in turn, round after round, each result checked before its time counts.

The rule: order changes from round to round, inputs are in the page cache, outputs of the run before are gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import matrices, places
from benchmarks.checks import Expected, WrongResultError
from benchmarks.children import Child, PeerFailedError, breathe
from benchmarks.matrices import Matrix

Say = Callable[[str], None]


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
    import zarr

    a, b = matrices.path_of(operation.a), matrices.path_of(operation.b)
    case = Case(operation.name, operation.about())
    expected = Expected(operation.kind, zarr.open_array(a, mode="r"), zarr.open_array(b, mode="r"))
    for number in range(-1 if operation.flops < 1e11 else 0, rounds):
        for child in in_turn(children, number):
            if child.name in case.failed:
                continue
            try:
                run = once(operation, child, a, b, expected)
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


def once(operation: Operation, child: Child, a: Path, b: Path, expected: Expected) -> dict[str, Any]:
    """One run, with a right result."""
    import zarr

    out = places.OUTPUTS / f"{child.name}.zarr"
    shutil.rmtree(out, ignore_errors=True)
    matrices.warm(a, b)
    os.sync()
    breathe()
    try:
        run = child.do(operation.kind, str(a), str(b), str(out), shape=operation.shape, dtype=operation.a.dtype)
        if child.name != "copy":
            expected.check(zarr.open_array(out, mode="r"))
        return run
    finally:
        shutil.rmtree(out, ignore_errors=True)


def start(names: Sequence[str], case_failed: dict[str, str], **options: Any) -> list[Child]:
    """Children for the peers that start here; the others' reasons go into ``case_failed``."""
    children = []
    for name in names:
        try:
            children.append(Child(name, options.get(name.replace("-", "_"))))
        except PeerFailedError as error:
            case_failed[name] = str(error)
    return children


def end(children: Sequence[Child]) -> None:
    for child in children:
        with suppress(OSError):
            child.close()
