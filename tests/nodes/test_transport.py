"""SSH to real nodes: root by sudo, cables that are pulled out, disks that are full; and logs, exec and ssh of four at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from coordinator.fleet.connections.everywhere import Missed, Target
from coordinator.fleet.connections.ssh import SshConnection, SshTransport
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.journals import Line, Wanted
from coordinator.fleet.node_store import NodeStore
from coordinator.fleet.reading_journals import read
from coordinator.fleet.records import Machine, NodeRecord
from tests.conftest import unique
from tests.nodes.conftest import NewNode
from tests.nodes.machines import Node
from tilefleet.config import Config, FleetSection, StoreSection
from tilefleet.errors import DoesNotFit, NotAllowed, TilefleetError, Unreachable
from tilefleet.fleet_config import HostsSection, NodesSection, SshSection
from tilefleet.quantities import Duration
from tilefleet.store import Stores, file_url
from tilefleet.toml import to_toml

pytestmark = pytest.mark.thorough

# Speaks as our daemons do, under the name of one.
SPEAK = """
cat >/root/speak <<'END'
i=0
while [ $i -lt COUNT ]; do
  i=$((i + 1))
  printf '{"event": "job_done", "level": "info", "operation": "OPERATION", "number": %d}\\n' $i
  sleep 0.02
done
sleep 600
END
systemd-run --quiet --unit=workerd sh /root/speak
"""


def speak(node: Node, count: int, operation: str) -> None:
    """So many lines about an operation, from a service that then waits."""
    node.run("systemctl stop workerd.service || true; " + SPEAK.replace("COUNT", str(count)).replace("OPERATION", operation))


def transport(nodes: list[Node], **ssh: object) -> SshTransport:
    settings = {"key_file": str(nodes[0].private_key), "agent": False, "connect": Duration("2 s"), "keepalive": Duration("1 s")}
    config = Config(nodes=NodesSection(provider="hosts"), ssh=SshSection(**(settings | ssh)))  # type: ignore[arg-type]
    return SshTransport(config, FleetFiles(unique("fleet")))


def known(node: Node) -> tuple[Machine, NodeRecord]:
    """As its owner wrote it down."""
    pinned = " ".join(node.known_hosts.read_text(encoding="utf-8").split()[1:3])
    return Machine("m", "n1", "running", address=node.address, user=node.user), NodeRecord("n1", "m", host_keys=(pinned,))


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[SshConnection]:
    connection = await transport([node]).connect(*known(node), deadline_s=30)
    try:
        yield connection
    finally:
        await connection.close()


async def refusal(node: Node, deadline_s: float = 3.0, **ssh: object) -> TilefleetError:
    with pytest.raises(TilefleetError) as caught:
        await transport([node], **ssh).connect(*known(node), deadline_s=deadline_s)
    return caught.value


class TestOneNode:
    async def test_commands_run_as_root_and_end_at_their_deadline(self, four_nodes: list[Node]) -> None:
        node = four_nodes[0]
        async with connected(node) as connection:
            done = await connection.run("id -un; cat; exit 5", deadline_s=20, stdin=b"input\n")
            assert done == (5, "root\ninput\n")
            with pytest.raises(Unreachable, match="did not end within 1 s"):
                await connection.run("sleep 654 & sleep 654", deadline_s=1)
            assert node.run("pgrep -fc 'sleep [6]54' || true").strip() == "0"
            assert node.run("ls -d /run/tilefleet.* 2>/dev/null || true") == ""

    async def test_files_arrive_at_many_at_once(self, four_nodes: list[Node], tmp_path: Path) -> None:
        local = tmp_path / "wheelhouse"
        local.write_bytes(os.urandom(20 << 20))
        way = transport(four_nodes)
        connections = await asyncio.gather(*(way.connect(*known(node), deadline_s=30) for node in four_nodes))
        await asyncio.gather(*(one.upload(local, "/var/cache/x/wheelhouse", deadline_s=60) for one in connections))
        for node, connection in zip(four_nodes, connections, strict=True):
            await connection.close()
            assert node.run("stat -c '%U %a %s' /var/cache/x/wheelhouse").split() == ["root", "600", str(20 << 20)]

    async def test_a_node_that_vanishes_is_noticed_by_its_silence(self, four_nodes: list[Node]) -> None:
        node = four_nodes[1]
        async with connected(node) as connection:
            running = asyncio.create_task(connection.run("sleep 300", deadline_s=200))
            await asyncio.sleep(0.3)
            node.cut()
            try:
                with pytest.raises(Unreachable, match=f"the connection to n1 \\({node.address}\\) broke"):
                    async with asyncio.timeout(60):
                        await running
                said = await refusal(node)
                assert isinstance(said, Unreachable)
                assert f"n1 ({node.address}) does not answer on port 22" in str(said)
            finally:
                node.heal()

    async def test_an_upload_goes_on_after_the_power_failed(self, new_node: NewNode, tmp_path: Path) -> None:
        node = new_node()
        local = tmp_path / "local"
        local.write_bytes(os.urandom(60 << 20))
        async with connected(node) as connection:
            uploading = asyncio.create_task(connection.upload(local, "/var/cache/local", deadline_s=100))
            await asyncio.to_thread(until, lambda: node.run("ls /var/cache | grep part || true"))
            node.power_off_hard()
            with pytest.raises(Unreachable):
                await uploading
        node.boot()
        async with connected(node) as connection:
            await connection.upload(local, "/var/cache/local", deadline_s=100)
            done = await connection.run("sha256sum </var/cache/local; ls /var/cache", deadline_s=20)
        assert done.output.startswith(hashlib.sha256(local.read_bytes()).hexdigest())
        assert "part" not in done.output

    async def test_what_keeps_us_out_is_said(self, new_node: NewNode) -> None:
        imposter = await refusal(new_node(is_imposter=True))
        assert isinstance(imposter, NotAllowed)
        assert "proves another host key than the one that is known" in str(imposter)
        no_sudo = await refusal(new_node(has_sudo=False))
        assert isinstance(no_sudo, NotAllowed)
        assert "may not become root without a password" in str(no_sudo)

    async def test_a_full_disk_is_said_before_anything_is_sent(self, new_node: NewNode, tmp_path: Path) -> None:
        node = new_node(disk_mib=64)
        (tmp_path / "large").write_bytes(os.urandom(80 << 20))
        async with connected(node) as connection:
            with pytest.raises(DoesNotFit, match=r"does not fit on n1 .* 96\.0 MiB are needed"):
                await connection.upload(tmp_path / "large", "/var/cache/large", deadline_s=60)
            assert (await connection.run("dd if=/dev/zero of=/fill bs=1M; true", deadline_s=30)).status == 0
            assert (await connection.run("echo still in", deadline_s=20)).output == "still in\n"


class Commands:
    """``tilefleet fleet …`` about four nodes that are set up as far as their records say."""

    def __init__(self, directory: Path, nodes: list[Node]) -> None:
        self.nodes = nodes
        (directory / "store").mkdir()
        self.config = Config(
            fleet=FleetSection(name=unique("fleet"), kind="remote"),
            store=StoreSection(url=file_url(directory / "store")),
            nodes=NodesSection(provider="hosts"),
            ssh=SshSection(key_file=str(nodes[0].private_key), agent=False, keepalive=Duration("1 s")),
            hosts=HostsSection(addresses=tuple(f"{node.user}@{node.address}" for node in nodes)),
        )
        self._file = directory / "fleet.toml"
        self._file.write_text(to_toml(self.config), encoding="utf-8")
        self._environment = os.environ | {"TILEFLEET_STATE": str(directory / "state")}

    async def write_records(self) -> None:
        store = NodeStore(Stores(self.config.store).open(self.config.store.url))
        await store.found(self.config.fleet.name)
        for number, node in enumerate(self.nodes, 1):
            record = NodeRecord(
                f"n{number}", f"{node.user}@{node.address}", "ready", host_keys=known(node)[1].host_keys, ready_at=1.0
            )
            assert await store.claim(record)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._line(words), check=False, capture_output=True, text=True, env=self._environment, stdin=subprocess.DEVNULL
        )

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            self._line(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)

    def _line(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "coordinator.cli.main", "--config", str(self._file), "fleet", *words]


@pytest.fixture(scope="module")
def commands(four_nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Commands:
    commands = Commands(tmp_path_factory.mktemp("commands"), four_nodes)
    asyncio.run(commands.write_records())
    return commands


class TestFourNodes:
    def test_exec_runs_everywhere_and_ends_with_the_worst(self, commands: Commands) -> None:
        done = commands.run("exec", "echo on $(hostname); test $(hostname) != " + commands.nodes[2].name)
        assert done.returncode == 1, done.stderr
        assert sorted(done.stdout.splitlines()) == [f"n{i} | on {node.name}" for i, node in enumerate(commands.nodes, 1)]
        assert "n3 : ended with status 1" in done.stderr

    def test_exec_for_programs_names_whom_it_missed(self, commands: Commands) -> None:
        commands.nodes[3].cut()
        try:
            done = commands.run("exec", "--json", "--node", "n1", "--node", commands.nodes[3].address, "id", "-u")
        finally:
            commands.nodes[3].heal()
        assert done.returncode == Unreachable.exit_code, done.stderr
        one, other = json.loads(done.stdout)
        assert (one["node"], one["status"], one["output"]) == ("n1", 0, "0\n")
        assert (other["node"], other["status"]) == ("n4", None)
        assert "does not answer on port 22" in other["error"]

    def test_ssh_by_hand_uses_the_pinned_keys(self, commands: Commands) -> None:
        done = commands.run("ssh", "n2", "hostname", "-s")
        assert (done.stdout.strip(), done.returncode) == (commands.nodes[1].name, 0), done.stderr
        unknown = commands.run("ssh", "n9")
        assert unknown.returncode == 4
        assert "no node 'n9'; it has n1, n2, n3, n4" in unknown.stderr

    def test_logs_of_all_in_the_order_of_time(self, commands: Commands) -> None:
        for node in commands.nodes:
            speak(node, 40, "cpjh305aeqnm")
        for node in commands.nodes:
            until(lambda node=node: '"number": 40' in node.run("journalctl -u workerd -o cat -n 3"))  # type: ignore[misc]
        done = commands.run("logs", "--since", "10m", "--operation", "cpjh", "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
        for number in range(1, 5):
            assert [line["number"] for line in lines if line["node"] == f"n{number}"] == list(range(1, 41)), done.stderr
        tail = commands.run("logs", "--node", "n1")
        assert "job_done            operation=cpjh305aeqnm number=40" in tail.stdout
        assert len(tail.stdout.splitlines()) <= 50

    def test_followed_logs_survive_a_node_that_is_away(self, commands: Commands) -> None:
        away = commands.nodes[0]
        with commands.running("logs", "-f", "--operation", "followed", "--json", "--since", "10m") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for node in commands.nodes:
                speak(node, 20, "followed")
            seen = heard(process.stdout, {f"n{number}": 20 for number in range(1, 5)})
            assert [line["time"] for line in seen] == sorted(line["time"] for line in seen)
            away.cut()
            try:
                assert "the connection to n1" in process.stderr.readline()
                speak(away, 3, "followed")
                speak(commands.nodes[1], 3, "followed")
                assert {line["node"] for line in heard(process.stdout, {"n2": 3})} == {"n2"}
            finally:
                away.heal()
            assert [line["number"] for line in heard(process.stdout, {"n1": 3})] == [1, 2, 3]


async def test_where_nothing_is_seen_before_a_command_ends_journals_are_asked_for_again(four_nodes: list[Node]) -> None:
    node = four_nodes[3]
    shown: list[Line] = []
    target = Target(*known(node))
    speak(node, 3, "polled")
    wanted, missed = Wanted("polled"), list[Missed]()
    reading = asyncio.create_task(
        read(transport([node]), [target], wanted, shown.append, missed.append, since_s=600, follow=True, polled=True)
    )
    await asyncio.to_thread(until, lambda: [line for line in shown if line.fields["number"] == 3])
    speak(node, 2, "polled")
    await asyncio.to_thread(until, lambda: len(shown) > 3 and shown[-1].fields["number"] == 2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert [line.fields["number"] for line in shown[-5:]] == [1, 2, 3, 1, 2]
    assert missed == []


async def test_a_journal_that_cannot_be_read_is_said_once_in_the_nodes_words(four_nodes: list[Node]) -> None:
    node, missed = four_nodes[3], list[Missed]()
    node.run("chmod -x /usr/bin/journalctl")
    try:
        await read(transport([node]), [Target(*known(node))], Wanted(), lambda _: None, missed.append, follow=True)
    finally:
        node.run("chmod +x /usr/bin/journalctl")
    [one] = missed
    assert "the journal of n1 cannot be read" in one.sentence
    assert "ermission denied" in one.sentence


def heard(lines: IO[str], until_number: dict[str, int]) -> list[dict[str, Any]]:
    """What is printed until each of these nodes has said its number."""
    found: list[dict[str, Any]] = []
    left = dict(until_number)
    while left:
        line = json.loads(lines.readline())
        found.append(line)
        if left.get(line["node"]) == line["number"]:
            del left[line["node"]]
    return found


def until(is_so: Callable[[], object]) -> None:
    while not is_so():
        time.sleep(0.05)
