"""The nodes are what the other tests take them for."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import ACCESS_KEY, SECRET_KEY, Server
from tests.nodes.conftest import NewNode
from tests.nodes.machines import CommandFailed, Network, Node
from tests.nodes.runs import claim

DEADLINE_S = 20.0

pytestmark = pytest.mark.thorough

# A test run that dies as a run must not: without a chance to clean up.
CRASHING_RUN = """
import os, signal
from tests.nodes.machines import Network

node = Network().add_node()
node.boot()
print(node.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


# ---- what they are


def test_four_nodes_run_systemd(four_nodes: list[Node]) -> None:
    assert [node.run("systemctl is-system-running --wait").strip() for node in four_nodes] == ["running"] * 4
    assert len({node.run("cat /etc/machine-id") for node in four_nodes}) == 4


async def test_users_log_in_under_strict_host_keys(four_nodes: list[Node]) -> None:
    for node in four_nodes:
        async with node.ssh() as connection:
            result = await connection.run("uname -n; whoami; sudo whoami", check=True)
            assert str(result.stdout).split() == [node.name, "ec2-user", "root"]


def test_they_reach_each_other(four_nodes: list[Node]) -> None:
    first, *others = four_nodes
    for other in others:
        first.run(f"python3 -c 'import socket; socket.create_connection((\"{other.address}\", 22), timeout=5)'")


def test_they_do_not_reach_the_internet(four_nodes: list[Node]) -> None:
    with pytest.raises(CommandFailed, match="unreachable"):
        four_nodes[0].run("ip route get 192.0.2.1")


def test_they_reach_the_cloud(four_nodes: list[Node], cloud: Server) -> None:
    curl = f"curl --silent --show-error --fail --max-time 20 --user {ACCESS_KEY}:{SECRET_KEY} --aws-sigv4 aws:amz:us-east-1"
    place = f"{cloud.endpoint_url}/{cloud.new_bucket()}/greeting"
    four_nodes[0].run(f"echo hello | {curl}:s3 --upload-file - {place}")
    assert four_nodes[1].run(f"{curl}:s3 {place}") == "hello\n"
    assert "ListQueuesResponse" in four_nodes[0].run(f"{curl}:sqs --data Action=ListQueues {cloud.endpoint_url}")


def test_the_journal_is_read_as_json(four_nodes: list[Node]) -> None:
    lines = four_nodes[0].run("journalctl --output=json --unit=ssh --boot").splitlines()
    assert any("listening on" in json.loads(line)["MESSAGE"] for line in lines)
    assert "listening on" in four_nodes[0].journal("ssh")


def test_commands_inside_fail_loudly_and_end(four_nodes: list[Node]) -> None:
    node = four_nodes[0]
    with pytest.raises(CommandFailed, match="status 3: so it is"):
        node.run("echo so it is; exit 3")
    with pytest.raises(CommandFailed, match="status 124"):
        node.run("sleep 60", timeout_s=0.2)
    before = time.monotonic()
    node.run("sleep 60 &")
    assert time.monotonic() - before < DEADLINE_S


# ---- power and cables


async def test_power_fails_without_a_word(new_node: NewNode) -> None:
    node = new_node()
    node.run("echo kept >/root/file")
    async with node.ssh() as connection:
        node.power_off_hard()
        assert not node.is_up()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(connection.wait_closed(), 1)  # nothing tells the peer
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.open_connection(node.address, 22), 1)
        connection.abort()
    node.boot()
    assert node.run("cat /root/file") == "kept\n"
    async with node.ssh() as connection:
        await connection.run("true", check=True)


def test_a_shutdown_lets_units_stop(new_node: NewNode) -> None:
    node = new_node()
    node.run("systemd-run --property='ExecStop=sh -c \"echo bye >/root/bye\"' sleep infinity")
    node.shut_down()
    assert not node.is_up()
    node.boot()
    assert node.run("cat /root/bye") == "bye\n"


def test_a_reboot_from_inside_comes_up_again(new_node: NewNode) -> None:
    node = new_node()
    first = node.run("cat /proc/sys/kernel/random/boot_id")
    node.reboot()
    assert node.run("cat /proc/sys/kernel/random/boot_id") != first


async def test_a_cable_is_pulled_out_and_put_in_again(four_nodes: list[Node]) -> None:
    node = four_nodes[3]
    async with node.ssh() as connection:
        node.cut()
        answer = asyncio.ensure_future(connection.run("echo hello", check=True))
        done, _ = await asyncio.wait([answer], timeout=1)
        assert not done
        assert node.run("cat /sys/class/net/eth0/carrier") == "1\n"
        node.heal()
        assert (await asyncio.wait_for(answer, DEADLINE_S)).stdout == "hello\n"


def test_a_node_gets_its_share_of_a_core(new_node: NewNode) -> None:
    spin = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    node = new_node()
    node.set_cpu_share(0.2)
    assert float(node.run(f"python3 -c '{spin}'")) < 0.5
    node.power_off_hard()
    node.set_cpu_share(None)
    node.boot()


# ---- special ones


def test_a_node_without_python_or_sudo(new_node: NewNode) -> None:
    node = new_node(has_python=False, has_sudo=False)
    assert node.run("command -v python3 || echo none") == "none\n"
    assert "password is required" in node.run(f"su {node.user} -c 'sudo --non-interactive true' || true")


def test_a_node_with_a_small_disk(new_node: NewNode) -> None:
    node = new_node(disk_mib=64)
    with pytest.raises(CommandFailed, match="No space left"):
        node.run("head --bytes=100M /dev/zero >/home/large")


async def test_an_imposter_is_turned_away(new_node: NewNode) -> None:
    with pytest.raises(asyncssh.HostKeyNotVerifiable):
        async with new_node(is_imposter=True).ssh():
            pass


# ---- test runs


def test_what_a_crashed_run_left_is_removed_and_live_ones_stay(four_nodes: list[Node], network: Network) -> None:
    crashed = subprocess.run([sys.executable, "-c", CRASHING_RUN], check=False, capture_output=True, text=True)
    assert crashed.returncode == -signal.SIGKILL, crashed.stderr
    name = crashed.stdout.strip()
    assert name.split("-")[0] != network.name
    claim().close()
    assert not Path("/run/netns", name).exists()
    assert name not in Path("/proc/self/mountinfo").read_text()
    assert name not in subprocess.run(["ps", "axww"], check=True, capture_output=True, text=True).stdout
    assert all(node.run("true") == "" for node in four_nodes)
