"""A storm: processes are killed and started again, AWS fails, while a client asks for one operation after the other.

The rules: who dies when, and what is hurt, is drawn from a seed; every result is compared to the bit; in the end nothing is left
behind: no process, no message, no object that belongs to nobody.
"""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.acceptance.deployment import Place
from tests.faults.proxy import Hurts, Proxy

SIDE = 1200
STORM = Hurts(
    refuse=0.02, lose=0.02, throttle=0.02, reset=0.015, cut_off=0.015, truncate=0.02, corrupt=0.02, delay=0.05, black_hole=0.002,
    repeat=0.1, delay_s=0.5,
)  # fmt: skip
PAUSE_S = (0.2, 1.5)  # between two kills
LEAST_OPERATIONS = 5
DEADLINE_S = 300.0  # for one operation, in the worst of storms


@dataclass
class Storm:
    """What is going on. ``at``: where a matrix of that name lies, for the command; ``kill``: kill -9 of that victim, which is
    started again so many seconds later; ``check_calm``: that nothing is left; ``kills``: how many of whom."""

    here: Place
    at: Callable[[str], str]
    victims: tuple[str, ...]
    kill: Callable[[str, float], None]
    check_calm: Callable[[], None]
    seed: int
    proxies: tuple[Proxy, ...] = ()
    kills: Counter[str] = field(default_factory=Counter)
    n_right: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._ends = threading.Event()
        rng = np.random.default_rng(self.seed)
        self._matrices = {name: rng.integers(-1000, 1000, (SIDE, SIDE)) for name in "abc"}

    @property
    def n_faults(self) -> int:
        return sum(proxy.n_hurt for proxy in self.proxies)

    def prepare(self) -> None:
        """Operands, before the storm."""
        for name, matrix in self._matrices.items():
            np.save(self.here.directory / f"{name}.npy", matrix)
            if self.at(name) != f"{name}.npy":
                self.here.output("convert", f"{name}.npy", self.at(name))

    def rage(self, n_kills: int, n_faults: int, hurts: Hurts = STORM) -> None:
        """Operations, until that many kills and faults have happened; each is right to the bit."""
        for proxy in self.proxies:
            proxy.hurts = hurts
        killer = threading.Thread(target=self._kill, args=(n_kills,), name="killer")
        killer.start()
        try:
            while self.n_right < LEAST_OPERATIONS or killer.is_alive() or self.n_faults < n_faults:
                self.operate()
        finally:
            self._ends.set()
            killer.join()
            for proxy in self.proxies:
                proxy.hurts = Hurts()

    def _kill(self, n_kills: int) -> None:
        """kill -9 of one daemon after the other; each is started again after a moment, as systemd does."""
        draw = random.Random(self.seed + 1)
        for _ in range(n_kills):
            if self._ends.wait(draw.uniform(*PAUSE_S)):
                return
            name = draw.choice(self.victims)
            self.kill(name, draw.uniform(0, 0.5))
            self.kills[name] += 1

    def operate(self) -> None:
        """One operation, with a right result."""
        left, right = (self._random.choice("abc") for _ in range(2))
        kind = self._random.choice(("multiply", "multiply", "add", "subtract"))
        a, b = self._matrices[left], self._matrices[right]
        expected = {"multiply": lambda: a @ b, "add": lambda: a + b, "subtract": lambda: a - b}[kind]()
        out = f"result-{self.n_right % 4}"
        command = (kind, self.at(left), self.at(right), "-o", self.at(out), "--overwrite")
        self._until_done(command)
        self.fetched(out, expected)
        self.n_right += 1

    def _until_done(self, command: tuple[str, ...]) -> None:
        """Ask until it is done. The client dies, too, now and then; its operation then goes on, or ends with an error by name."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            client = self.here.start(*command)
            if self._random.random() < 0.15:
                time.sleep(self._random.uniform(0.2, 2.0))
                if client.poll() is None:
                    client.kill()
                    self.kills["client"] += 1
            try:
                _, said = client.communicate(timeout=max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise AssertionError(f"{command} hangs") from error
            assert "Traceback" not in said, said
            if client.returncode == 0:
                return
            assert client.returncode in (-signal.SIGKILL, *EXPECTED), f"{command} ended with {client.returncode}: {said}"
        raise AssertionError(f"{command} was never done")

    def fetched(self, name: str, expected: np.ndarray) -> None:
        """Read it back, with the same store as hurt as ever."""
        local = self.here.directory / f"{name}.npy"
        deadline = time.monotonic() + DEADLINE_S
        while self.at(name) != local.name:
            ended = self.here.run("convert", self.at(name), str(local), "--overwrite", timeout_s=DEADLINE_S)
            if ended.returncode == 0:
                break
            assert ended.returncode in EXPECTED, ended.stderr
            assert time.monotonic() < deadline, ended.stderr
        np.testing.assert_array_equal(np.load(local), expected)
        local.unlink()

    def report(self) -> str:
        """For people."""
        hurt = sum((proxy.counts for proxy in self.proxies), Counter())
        return f"{self.n_right} operations right; killed: {dict(self.kills)}; {self.n_faults} faults of {dict(hurt)}"


EXPECTED = (7, 8, 11)  # unreachable, failed, being written by an operation whose client died: asked again
