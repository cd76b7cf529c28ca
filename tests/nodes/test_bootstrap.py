"""A machine becomes a node, whatever was there before, and says what is wrong where it cannot."""

from __future__ import annotations

import asyncio
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from coordinator.fleet.connections.ssh import SshTransport
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.ports import Connection, PhaseEvent
from coordinator.fleet.records import Machine, NodeRecord
from coordinator.fleet.setup import bootstrap, updating
from coordinator.fleet.setup.bootstrap import SetUp, StepFailed
from coordinator.fleet.setup.interpreter import Source
from coordinator.fleet.setup.materials import Release
from coordinator.fleet.setup.release import contents, pack, packed
from coordinator.fleet.setup.wheelhouse import Artefacts
from tests.conftest import ACCESS_KEY, SECRET_KEY, Server, unique
from tests.nodes.conftest import NewNode
from tests.nodes.image import node_image
from tests.nodes.machines import Network, Node
from tilefleet.config import Config, FleetSection, QueuesSection, StoreSection
from tilefleet.fleet_config import HostsSection, NodesSection, SshSection
from tilefleet.sqs import SqsQueues

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.thorough]

ENVIRONMENT = f"AWS_ACCESS_KEY_ID={ACCESS_KEY}\nAWS_SECRET_ACCESS_KEY={SECRET_KEY}\n"
DEADLINE_S = 30.0


class Fleet:
    """A fleet with queues and a store, and a way to its nodes."""

    def __init__(self, cloud: Server, network: Network) -> None:
        self.config = Config(
            fleet=FleetSection(name=unique("fleet"), kind="remote"),
            store=StoreSection(url=f"s3://{cloud.new_bucket()}/tiles", endpoint_url=cloud.endpoint_url),
            queues=QueuesSection(endpoint_url=cloud.endpoint_url),
            nodes=NodesSection(provider="hosts"),
            ssh=SshSection(key_file=str(network.private_key), agent=False),
            hosts=HostsSection(addresses=("stated-below",)),
        )
        self.events: list[PhaseEvent] = []

    def plan(self) -> SetUp:
        return bootstrap.planned(self.config, "n1", environment=ENVIRONMENT)

    @asynccontextmanager
    async def connected(self, node: Node) -> AsyncIterator[Connection]:
        async with SqsQueues(self.config.queues, self.config.fleet.name) as queues:
            await queues.ensure()
        machine = Machine(node.address, "n1", "running", address=node.address, user=node.user)
        record = NodeRecord("n1", node.address, host_keys=(node.host_key,))
        connection = await SshTransport(self.config, FleetFiles("unused")).connect(machine, record, deadline_s=DEADLINE_S)
        try:
            yield connection
        finally:
            await connection.close()

    async def set_up(self, node: Node, artefacts: Artefacts, plan: SetUp | None = None) -> bootstrap.Facts:
        async with self.connected(node) as connection:
            return await bootstrap.set_up(connection, plan or self.plan(), artefacts, self.events.append)

    async def update(self, node: Node, artefacts: Artefacts, plan: SetUp | None = None) -> bootstrap.Facts:
        async with self.connected(node) as connection:
            return await updating.update(connection, plan or self.plan(), artefacts, self.events.append)


@pytest.fixture
def fleet_of_one(cloud: Server, network: Network) -> Fleet:
    return Fleet(cloud, network)


@pytest.fixture(scope="module")
def artefacts() -> Artefacts:
    return Artefacts(pack())


@pytest.fixture(scope="module")
def machine(network: Network) -> Iterator[Node]:
    """One machine, from which tests find out and leave behind what they like."""
    node = network.add_node()
    node.boot()
    yield node
    node.remove()


def changed(module: str, text: str) -> Release:
    """The release of now with something at the end of a module."""
    now = contents()
    return packed(now | {module: now[module] + text.encode()})


def facts_of(node: Node) -> dict[str, str]:
    """What systemd says of its worker."""
    shown = node.run("systemctl show workerd --property=ActiveState,SubState,InvocationID,MemoryMax,TimeoutStopUSec")
    return dict(line.split("=", 1) for line in shown.splitlines())


# ---- from nothing to a worker


async def test_a_bare_machine_becomes_a_ready_worker(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    assert facts_of(machine)["SubState"] == "running"
    assert f'"version": "{artefacts.release.version}"' in machine.journal("workerd")
    assert machine.run("stat --format=%U:%a /etc/tilefleet/environment").strip() == "root:600"
    assert machine.run("systemctl is-enabled workerd").strip() == "enabled"


async def test_its_sandbox_is_real(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    pid = machine.run("systemctl show workerd --property=MainPID --value").strip()
    status = machine.run(f"cat /proc/{pid}/status")
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "CapBnd:\t0000000000000000" in status
    assert machine.run(f"nsenter --target={pid} --mount touch /etc/probe 2>&1 || true").strip().endswith("Read-only file system")


async def test_the_second_time_nothing_is_done(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    before = facts_of(machine), machine.run("stat --format=%i%z /opt/tilefleet-releases/*/.complete /etc/tilefleet/workerd.toml")
    facts = await fleet_of_one.set_up(machine, artefacts)
    assert facts.release == artefacts.release.version
    after = facts_of(machine), machine.run("stat --format=%i%z /opt/tilefleet-releases/*/.complete /etc/tilefleet/workerd.toml")
    assert after == before


async def test_memory_and_drain_of_the_config_are_those_of_the_unit(
    machine: Node, fleet_of_one: Fleet, artefacts: Artefacts
) -> None:
    plan = fleet_of_one.plan()._replace(memory_bytes=800 * 2**20, drain_s=100)
    await fleet_of_one.set_up(machine, artefacts, plan)
    assert facts_of(machine)["MemoryMax"] == str(1156 * 2**20)
    assert facts_of(machine)["TimeoutStopUSec"] == "2min 10s"


async def test_a_machine_may_be_the_coordinators_too(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    alone = msgspec.structs.replace(fleet_of_one.config, nodes=NodesSection())
    await fleet_of_one.set_up(machine, artefacts, bootstrap.planned(alone, "n2", "coordinator", ENVIRONMENT))
    assert machine.run("systemctl is-active coordinator workerd").split() == ["active", "active"]
    assert '"event": "lead_taken"' in machine.journal("coordinator")
    async with fleet_of_one.connected(machine) as connection:
        await updating.drain(connection, "n2", deadline_s=60, role="coordinator")
    assert machine.run("systemctl is-active coordinator workerd || true").split() == ["inactive", "active"]


async def test_a_machine_without_python_gets_one_and_may_fetch_packages_itself(
    new_node: NewNode, fleet_of_one: Fleet, artefacts: Artefacts, tmp_path: Path, network: Network
) -> None:
    archive = _archive_of_the_images_python(tmp_path)
    wheelhouse = await artefacts.wheelhouse("3.11", "x86_64")
    assert wheelhouse.archive is not None
    with tarfile.open(wheelhouse.archive) as wheels:
        wheels.extractall(tmp_path, filter="data")
    node = new_node(has_python=False)
    with _served(tmp_path, network.address) as url:
        settings = f"[global]\nno-index = true\nfind-links = {url}/\ntrusted-host = {network.address}\n"
        node.run(f"printf {settings!r} >/etc/pip.conf")
        source = Source("3.11.2", f"{url}/{archive.name}", hashlib.sha256(archive.read_bytes()).hexdigest())
        from_index = Artefacts(artefacts.release, is_uploaded=False, interpreters={"x86_64": source, "aarch64": source})
        facts = await fleet_of_one.set_up(node, from_index)
    assert facts.python_path == "/opt/tilefleet-python/3.11.2/bin/python3.11"
    assert "Python 3.11" in node.run("/opt/tilefleet/bin/python --version")
    assert facts_of(node)["SubState"] == "running"


# ---- changing it


async def test_an_update_switches_and_old_releases_go(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    releases = [changed("workerd/__init__.py", f"\nNUMBER = {n}\n") for n in range(3)]
    for release in releases:
        await fleet_of_one.update(machine, Artefacts(release))
        assert machine.run("/opt/tilefleet/bin/workerd --version").strip() == f"workerd {release.version}"
        assert facts_of(machine)["SubState"] == "running"
    assert set(machine.run("ls /opt/tilefleet-releases").split()) == {release.version for release in releases[-2:]}


async def test_what_does_not_even_import_never_stops_what_runs(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    before = facts_of(machine)
    with pytest.raises(StepFailed, match="ZeroDivisionError") as failure:
        await fleet_of_one.update(machine, Artefacts(changed("workerd/pipeline.py", "\n1 / 0\n")))
    assert failure.value.step == "packages"
    assert facts_of(machine) == before


async def test_what_does_not_start_is_rolled_back(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    settings = machine.run("cat /etc/tilefleet/workerd.toml")
    broken = changed("workerd/startup.py", "\n\nasync def run(*_):\n    raise TilefleetError('out of order on purpose')\n")
    plan = fleet_of_one.plan()._replace(settings=settings + "\n# changed\n")
    with pytest.raises(StepFailed, match="out of order on purpose") as failure:
        await fleet_of_one.update(machine, Artefacts(broken), plan)
    assert failure.value.step == "start"
    async with fleet_of_one.connected(machine) as connection:
        await updating.roll_back(connection, plan, artefacts.release.version, fleet_of_one.events.append)
    assert facts_of(machine)["SubState"] == "running"
    assert machine.run("/opt/tilefleet/bin/workerd --version").strip() == f"workerd {artefacts.release.version}"
    assert machine.run("cat /etc/tilefleet/workerd.toml") == settings


async def test_drained_it_stays_down_and_starts_again(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    await fleet_of_one.set_up(machine, artefacts)
    async with fleet_of_one.connected(machine) as connection:
        await updating.drain(connection, "n1", deadline_s=100)
        assert facts_of(machine)["ActiveState"] == "inactive"
        await updating.start(connection, "n1", deadline_s=100)
        assert facts_of(machine)["ActiveState"] == "active"


async def test_undone_only_what_is_not_ours_remains(machine: Node, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    machine.run("mkdir -p /etc/tilefleet && touch /etc/tilefleet/notes")
    await fleet_of_one.set_up(machine, artefacts, fleet_of_one.plan()._replace(dead_man_s=3600))
    assert machine.run("systemctl is-active tilefleet-deadman.timer").strip() == "active"
    async with fleet_of_one.connected(machine) as connection:
        await updating.undo(connection, "n1", deadline_s=120, role="coordinator")  # of an earlier test, if that ran
        removed = await updating.undo(connection, "n1", deadline_s=120)
        assert {"/opt/tilefleet", "/opt/tilefleet-releases", "the user tilefleet"} <= set(removed)
        assert await updating.undo(connection, "n1", deadline_s=120) == ()
    left = machine.run("find / -xdev -name '*tilefleet*' -o -xdev -name 'workerd*' | grep -v -e ^/proc -e ^/tmp; true")
    assert left.split() == ["/etc/tilefleet"]
    assert machine.run("ls /etc/tilefleet").split() == ["notes"]


# ---- what can be wrong with a machine


async def test_a_full_disk_is_said_before_anything_is_sent(new_node: NewNode, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    with pytest.raises(StepFailed, match=r"its disk is full: .* free under /opt, .* needed") as failure:
        await fleet_of_one.set_up(new_node(disk_mib=300), artefacts)
    assert failure.value.step == "inspect"


async def test_a_step_that_hangs_ends_at_its_deadline(new_node: NewNode, fleet_of_one: Fleet, artefacts: Artefacts) -> None:
    node = new_node()
    node.run(
        "printf '#!/bin/sh\necho waiting for the network >&2\nsleep 4242\n' >/usr/bin/cloud-init; chmod +x /usr/bin/cloud-init"
    )
    plan = fleet_of_one.plan()._replace(boot_s=2)
    with pytest.raises(StepFailed, match=r"did not end within 2.0 s; it last said: waiting for the network") as failure:
        await fleet_of_one.set_up(node, artefacts, plan)
    assert (failure.value.step, failure.value.may_pass) == ("cloud-init", True)
    async with asyncio.timeout(DEADLINE_S):
        # The brackets keep it from finding this very command.
        while node.run("pgrep -f '[s]leep 4242' || true"):  # noqa: ASYNC110 - another machine sets no event here
            await asyncio.sleep(0.1)


async def test_without_python_anywhere_it_says_what_was_tried(new_node: NewNode, fleet_of_one: Fleet) -> None:
    nowhere = Source("3.12.15", "http://127.0.0.1:9/python.tar.gz", "0" * 64)
    with pytest.raises(StepFailed, match=r"no Python 3.11 to 3.13; .*127.0.0.1:9.*; and its own distribution") as failure:
        await fleet_of_one.set_up(
            new_node(has_python=False), Artefacts(pack(), interpreters={"x86_64": nowhere, "aarch64": nowhere})
        )
    assert failure.value.step == "python"


def _archive_of_the_images_python(directory: Path) -> Path:
    """As python-build-standalone packs: ``python/bin/python3``. Its library is the image's own, which such a node still has."""
    archive = directory / "python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        program = (node_image() / "usr/bin/python3.11").read_bytes()
        entry = tarfile.TarInfo("python/bin/python3.11")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.11"
        tar.addfile(link)
    return archive


@contextmanager
def _served(directory: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """A directory over HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((address, 0), partial(Quiet, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{address}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
