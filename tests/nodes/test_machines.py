"""The nodes are what the other tests take them for."""

from __future__ import annotations

from tests.nodes.machines import Node


async def test_four_nodes_run_systemd(four_nodes: list[Node]) -> None:
    assert [node.run("systemctl is-system-running --wait").strip() for node in four_nodes] == ["running"] * 4
    assert len({node.run("cat /etc/machine-id") for node in four_nodes}) == 4


async def test_users_log_in_under_strict_host_keys(four_nodes: list[Node]) -> None:
    for node in four_nodes:
        async with node.ssh() as ssh:
            result = await ssh.run("uname -n; whoami; sudo whoami", check=True)
            assert str(result.stdout).split() == [node.name, "ec2-user", "root"]
