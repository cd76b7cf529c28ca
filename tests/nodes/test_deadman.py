"""The dead-man switch on real nodes: with its own units, at seconds instead of minutes."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nodes.conftest import NewNode
from tests.nodes.machines import Node

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
DEADLINE_S = 60.0
QUICK = "[Timer]\nOnBootSec=\nOnUnitActiveSec=\nOnBootSec=1\nOnUnitActiveSec=1\nAccuracySec=100ms\n"
COORDINATOR = (  # as workerd hears it
    "install -d -m 700 -o nobody /var/lib/tilefleet; "
    "systemd-run --quiet --unit=coordinator sh -c 'while :; do touch /var/lib/tilefleet/heard; sleep 1; done'"
)


def install(node: Node, dead_man_s: int, lifetime_s: int) -> None:
    """As the user data of an instance does at its first boot."""
    put(node, "/usr/local/sbin/tilefleet-deadman", (SYSTEMD / "tilefleet-deadman.sh").read_text(), "755")
    for unit in ("tilefleet-deadman.service", "tilefleet-deadman.timer"):
        put(node, f"/etc/systemd/system/{unit}", (SYSTEMD / unit).read_text())
    put(node, "/etc/systemd/system/tilefleet-deadman.timer.d/quick.conf", QUICK)
    put(node, "/etc/tilefleet/deadman.env", f"DEAD_MAN_S={dead_man_s}\nLIFETIME_S={lifetime_s}\n")
    node.run("systemctl daemon-reload; systemctl enable --now tilefleet-deadman.timer")


def put(node: Node, path: str, text: str, mode: str = "644") -> None:
    encoded = b64encode(text.encode()).decode()
    node.run(f"mkdir -p {path.rpartition('/')[0]}; echo {encoded} | base64 -d >{path}; chmod {mode} {path}")


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def looks(node: Node) -> int:
    """How often the switch has looked since the node was made."""
    return node.journal("tilefleet-deadman.service").count("Finished tilefleet-deadman")


def test_it_leaves_a_node_alone_that_hears_a_coordinator_and_then_switches_it_off(new_node: NewNode) -> None:
    node = new_node()
    node.run(COORDINATOR)
    install(node, dead_man_s=6, lifetime_s=0)
    wait_until(lambda: looks(node) >= 10, "it looks every second")
    assert node.is_up()
    assert "powering off" not in node.journal("tilefleet-deadman.service")
    node.run("systemctl stop coordinator")
    wait_until(lambda: not node.is_up(), "it is off")
    node.reap()
    node.boot()
    said = node.journal("tilefleet-deadman.service")
    assert "this machine powers itself off in" in said, said
    assert "powering off: no coordinator was heard for 7 s, the limit is 6 s" in said
    wait_until(lambda: not node.is_up(), "and off again: it is there after a restart, and so is the silence")


@pytest.mark.thorough
def test_a_restart_does_not_give_a_node_another_lifetime(new_node: NewNode) -> None:
    node = new_node()
    node.run(COORDINATOR)
    install(node, dead_man_s=0, lifetime_s=70)
    wait_until(lambda: looks(node) >= 3, "it looks every second")
    node.reboot()  # which counts as the minute that the timer waits otherwise
    wait_until(lambda: not node.is_up(), "its time is over")
