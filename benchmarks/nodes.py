"""The same product on 1, 2 and 4 real nodes: `python -m benchmarks.nodes N ROUNDS` prints what each took as JSON.

The rule: a node is a container that boots its own systemd, with a quota of processor time by its control group, made by the
tests' own code; what is said to its fleet is said by the command. All fleets are up at once, and those that are not asked are
idle, so that runs can be paired. Values are of int32's range in int64: there is much to compute for each byte, as the stand-in
for S3 needs the processor as well. A process of its own, because the tests' code clears the environment. Root, on Linux.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.checks import WrongResultError, times
from benchmarks.peers.opening import open_array
from benchmarks.rounds import remove
from tests.conftest import ACCESS_KEY, SECRET_KEY, Server, _running, _wait
from tests.nodes.disks import Options
from tests.nodes.machines import Network, Node
from tests.nodes.person import UP_TIMEOUT_S, Person
from tests.nodes.prepared import prepare

COUNTS = (1, 2, 4)
CORES_EACH = 0.35
VALUES = ("-2147483648", "2147483648")
RUN_TIMEOUT_S = 1200.0
HEARD_TIMEOUT_S = 180.0
SECTIONS: dict[str, dict[str, Any]] = {"worker": {"cores": 1}, "coordinator": {"job_target": "10 s"}}


class Expected:
    """The product of two matrices, checked modulo 2⁶⁴ with a random vector: exact, in every row."""

    def __init__(self, a: str, b: str, n: int) -> None:
        self._x = np.random.default_rng(8).integers(-(2**62), 2**62, n)
        self._y = times(open_array(a), times(open_array(b), self._x))

    def check(self, result: str) -> None:
        if not np.array_equal(times(open_array(result), self._x), self._y):
            raise WrongResultError("the result is wrong")


def main(n: int, n_rounds: int) -> None:
    """Prints, by number of nodes, what the rounds took."""
    with TemporaryDirectory() as directory, fleets(Path(directory)) as persons:
        first = persons[max(persons)]
        operands = [first.place(f"{name}.zarr") for name in ("a", "b")]
        for seed, operand in enumerate(operands):
            bounds = ("--low", VALUES[0], "--high", VALUES[1], "--seed", f"{seed}")
            first.say("random", f"{n}x{n}", operand, "--dtype", "int64", *bounds, timeout_s=RUN_TIMEOUT_S)
        expected = Expected(operands[0], operands[1], n)
        runs: dict[int, list[dict[str, Any]]] = {count: [] for count in persons}
        for _ in range(n_rounds):
            for count, person in persons.items():
                runs[count].append(once(person, operands, expected))
                print(f"  {count} nodes: {runs[count][-1]['s']:.1f} s", file=sys.stderr, flush=True)
    print(json.dumps(runs))


def once(person: Person, operands: list[str], expected: Expected) -> dict[str, Any]:
    """One product, from the command to its end; right before it counts."""
    out = person.place("c.zarr")
    began = time.perf_counter()
    done = person.told_by("multiply", *operands, "-o", out, timeout_s=RUN_TIMEOUT_S)
    took_s = time.perf_counter() - began
    expected.check(out)
    remove(out)
    return {"s": took_s, "parts_s": done["phases_s"], "facts": {"totals": done["totals"], "workers": done["workers"]}}


@contextmanager
def fleets(directory: Path) -> Iterator[dict[int, Person]]:
    """A fleet for each number of nodes, with limited nodes whose workers know how quick they are."""
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        cloud = stack.enter_context(_cloud(directory, network))
        nodes = _booted(network, sum(COUNTS))
        persons: dict[int, Person] = {}
        for count in COUNTS:
            mine, nodes = nodes[:count], nodes[count:]
            (directory / f"{count}").mkdir()
            persons[count] = person = Person(directory / f"{count}", network, mine, cloud, **SECTIONS)
            stack.callback(person.say, "fleet", "stop", status=None)
            person.say("fleet", "up", timeout_s=UP_TIMEOUT_S)
            _limit(person, mine)
        yield persons


def _limit(person: Person, nodes: list[Node]) -> None:
    for node in nodes:
        node.set_cpu_share(CORES_EACH)
        node.run("systemctl restart workerd", timeout_s=HEARD_TIMEOUT_S)
    deadline = time.monotonic() + HEARD_TIMEOUT_S
    while {node["state"] for node in person.told_by("fleet", "status")["nodes"]} != {"up"}:
        if time.monotonic() > deadline:
            raise TimeoutError("the nodes' workers are not heard")
        time.sleep(1)


def _booted(network: Network, count: int) -> list[Node]:
    """Nodes that have all packages, which the first of them installed."""
    pattern = network.add_node()
    pattern.boot()
    prepare(pattern)
    layer = pattern.as_layer()
    nodes = [network.add_node(Options(layer=layer)) for _ in range(count)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_until_up()
    return nodes


@contextmanager
def _cloud(directory: Path, network: Network) -> Iterator[Server]:
    """The stand-in for AWS, at the host's address in the nodes' network; this process reads results from it, too."""
    ready = directory / "ready"
    command = [sys.executable, "-m", "tests.nodes.cloud", network.address, "--ready-file", str(ready)]
    with _running(command, directory, {"PYTHONPATH": os.environ["PYTHONPATH"]}) as process:
        _wait(process, directory, ready.exists)
        endpoint = ready.read_text(encoding="utf-8")
        os.environ.update(AWS_ENDPOINT_URL_S3=endpoint, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY)
        yield Server(endpoint)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
