"""A network of real Linux nodes: each boots its own systemd and OpenSSH in a container with an address of its own.

The rule: a node is treated as a machine. Its power and its cable are the test's to cut; what runs inside is reached by SSH, as
in production, or from the host without any network (``run``). There is no way out of the network: nodes reach each other and
the host's end of it, nothing else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile

import asyncssh

from tests.nodes.cgroups import ControlGroup
from tests.nodes.disks import Options, admit, make_disk, personalize, take_layer, write_host_key, write_private_key
from tests.nodes.image import USER, node_image
from tests.nodes.runs import claim, ip, remove_directory, unmount_below

BOOT_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 60.0
SSH_TIMEOUT_S = 20
POLL_S = 0.02
SSH_PORT = 22
BARE = Options()
_EXPORTS = Path("/run/systemd/nspawn/unix-export")  # newer ones refuse to boot over what a hard power-off left there
_POWER_OFF = 38  # SIGRTMIN + 4: systemd as PID 1 starts poweroff.target. macOS, where this is only read, has no such name

# Enters the control groups named before "--", then runs the rest.
_ENTER = """
while [ "$1" != -- ]; do echo 0 >"$1" || exit 1; shift; done
shift
"""
_AND_RUN = 'exec "$@"'
_AND_KEEP_UP = """
status=133 # rebooted from inside
while [ $status = 133 ]; do status=0; "$@" || status=$?; done
exit $status
"""


class CommandFailed(Exception):
    """A command inside a node ended with another status than 0."""

    def __init__(self, command: str, status: int, output: str) -> None:
        super().__init__(f"{command!r} ended with status {status}: {output[-2000:]}")
        self.status = status
        self.output = output


class Network:
    """A switch with a subnet of its own; the host is plugged in as ``address``."""

    def __init__(self) -> None:
        self._image = node_image()
        self._run = claim()
        self._nodes: list[Node] = []
        self.name = self._run.name
        self.address = f"10.77.{self._run.number}.1"
        self.subnet = f"10.77.{self._run.number}.0/24"
        self.private_key = self._run.directory / "id_ed25519"
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        write_private_key(self._key, self.private_key)
        self._lay_cables()

    def add_node(self, options: Options | None = None, address: str = "") -> Node:
        """A node that is plugged in and switched off. ``address``: of the subnet; empty: the next that is free."""
        number = len(self._nodes) + 1
        name, address = f"{self.name}-{number}", address or f"10.77.{self._run.number}.{10 + number}"
        directory = self._run.directory / name
        directory.mkdir()
        root = make_disk(self._image, directory, options or BARE)
        admit(root, self._key.export_public_key().decode())
        mac = f"02:00:0a:4d:{self._run.number:02x}:{number:02x}"
        self._plug_in(name, mac)
        self._assign(name, mac, address)
        self._nodes.append(Node(self, name, address, mac, root, options or BARE))
        return self._nodes[-1]

    def connect(self, name: str) -> None:
        """Put the node's cable into the switch."""
        ip("-n", self.name, "link", "set", name, "master", "switch")

    def disconnect(self, name: str) -> None:
        """Pull it out. Nobody is told: the link stays up, packets vanish, as in a cloud."""
        ip("-n", self.name, "link", "set", name, "nomaster")

    def move(self, name: str, mac: str, old: str, new: str) -> None:
        """Give a node another address."""
        ip("-n", name, "address", "delete", f"{old}/24", "dev", "eth0")
        ip("neighbour", "delete", old, "dev", self.name)
        self._assign(name, mac, new)

    def close(self) -> None:
        """Switch everything off and remove it."""
        self._run.close()
        for node in self._nodes:
            node.reap()

    def _lay_cables(self) -> None:
        """The switch lives in a namespace of its own, where the host's firewall (Docker's, say) does not look into it."""
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "add", "switch", "type", "bridge")
        ip("-n", self.name, "link", "set", "switch", "up")
        ip("link", "add", self.name, "type", "veth", "peer", "name", "host", "netns", self.name)
        ip("-n", self.name, "link", "set", "host", "master", "switch", "up")
        ip("address", "add", f"{self.address}/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    def _plug_in(self, name: str, mac: str) -> None:
        ip("netns", "add", name)
        ip("-n", self.name, "link", "add", name, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", name)
        ip("-n", self.name, "link", "set", name, "master", "switch", "up")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")

    def _assign(self, name: str, mac: str, address: str) -> None:
        ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        # In a cloud nobody says that a machine is gone: connecting to it takes until the caller's own deadline.
        ip("neighbour", "replace", address, "lladdr", mac, "dev", self.name, "nud", "permanent")


class Node:
    """One machine. It is made switched off; ``boot`` it, or ``start`` several and then wait for each."""

    user = USER

    def __init__(self, network: Network, name: str, address: str, mac: str, root: Path, options: Options) -> None:
        self.name = name
        self.address = address
        self.private_key = network.private_key
        self.known_hosts = root.parent / "known_hosts"
        self._network = network
        self._mac = mac
        self._group = ControlGroup(name)
        self._console = root.parent / "console.log"
        self._root = root
        self._cores: float | None = None
        self._launcher: subprocess.Popen[bytes] | None = None
        self.host_key = write_host_key(root, options.is_imposter)
        self._announce()
        personalize(root, name, address, options)

    # ---- power

    def boot(self) -> None:
        """Switch on, and wait until it lets users in."""
        self.start()
        self.wait_until_up()

    def start(self) -> None:
        """Switch on, with the cable in."""
        assert not self.is_up(), f"{self.name} is on"
        self.heal()
        self._group.remove()  # groups of units that a hard power-off left
        unmount_below(_EXPORTS / self.name)
        command = [
            "systemd-nspawn", "--quiet", "--boot", f"--directory={self._root}", f"--machine={self.name}", "--register=no",
            "--keep-unit", f"--network-namespace-path=/run/netns/{self.name}", "--resolv-conf=off", "--timezone=off",
            "--link-journal=no", "--settings=no", "--console=pipe",
            "--suppress-sync=yes",  # a node loses power, the host does not; and a sync there waits for all the host's disks
        ]  # fmt: skip
        doors = self._group.doors("machine")
        self._group.limit_cpu(self._cores)
        with self._console.open("ab") as console:
            self._launcher = subprocess.Popen(
                ["sh", "-c", _ENTER + _AND_KEEP_UP, "sh", *doors, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for the tests
            )

    def wait_until_up(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Until a user can log in over SSH."""
        deadline = time.monotonic() + timeout_s
        while not (self._ssh_answers() and self._lets_users_in()):
            has_ended = self._launcher is not None and self._launcher.poll() is not None
            if has_ended or time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not come up; its console says:\n{self.console()[-3000:]}")
            time.sleep(POLL_S)

    def is_up(self) -> bool:
        """Whether it is switched on."""
        return self._launcher is not None and self._launcher.poll() is None

    def power_off_hard(self) -> None:
        """As when the power fails: the network first, so that no peer hears a connection being closed."""
        self.cut()
        self._group.kill()
        self.reap()

    def shut_down(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Orderly: systemd stops all units."""
        os.kill(self._first_process(), _POWER_OFF)
        self._group.wait_until_empty(timeout_s)
        self.reap()

    def reboot(self) -> None:
        """From inside, as an administrator does it."""
        before = Path(f"/proc/{self._first_process()}")
        self.run("systemctl --no-block reboot")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while before.exists():
            assert time.monotonic() < deadline, f"{self.name} does not go down"
            time.sleep(POLL_S)
        self.wait_until_up()

    def set_cpu_share(self, cores: float | None) -> None:
        """Let all that runs in the node have at most so many cores' worth of time together (None: no limit).

        Programs in it still see all of the host's cores.
        """
        self._cores = cores
        if self.is_up():
            self._group.limit_cpu(cores)

    def as_layer(self) -> Path:
        """Switch it off for good: what is on its disk, for the disks of others (``Options.layer``)."""
        self.shut_down()
        return take_layer(self._console.parent)

    def remove(self) -> None:
        """Switch off and remove all that is left of it."""
        self._group.remove()
        self.reap()
        ip("netns", "delete", self.name)
        remove_directory(self._console.parent)

    def reap(self) -> None:
        """Wait for the end of the process that held it up."""
        if self._launcher is not None:
            self._launcher.wait(timeout=STOP_TIMEOUT_S)

    # ---- network

    def cut(self) -> None:
        """Pull the cable out: packets vanish in both directions, and nobody is told."""
        self._network.disconnect(self.name)

    def heal(self) -> None:
        """Put it in again."""
        self._network.connect(self.name)

    def move(self, address: str) -> None:
        """From now on it has this address instead."""
        self._network.move(self.name, self._mac, self.address, address)
        self.address = address
        self._announce()

    def _announce(self) -> None:
        self.known_hosts.write_text(f"{self.address} {self.host_key}\n", encoding="utf-8")

    @asynccontextmanager
    async def ssh(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection of the user's, strict about the host key."""
        async with asyncssh.connect(
            self.address,
            username=self.user,
            client_keys=[str(self.private_key)],
            known_hosts=str(self.known_hosts),
            config=None,  # the settings and keys of the person who runs the tests stay out
            agent_path=None,
            connect_timeout=SSH_TIMEOUT_S,
        ) as connection:
            yield connection

    # ---- inside

    def run(self, command: str, timeout_s: float = RUN_TIMEOUT_S) -> str:
        """What a shell command of root's prints inside, errors too; needs no network. Raises CommandFailed (124: too late)."""
        inside = [
            "nsenter", f"--target={self._first_process()}", "--mount", "--uts", "--ipc", "--net", "--pid",
            "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
            "timeout", "--kill-after=5", f"{timeout_s}", "sh", "-c", command,
        ]  # fmt: skip
        entered: list[str | Path] = ["sh", "-c", _ENTER + _AND_RUN, "sh", *self._group.doors("run"), "--", *inside]
        with TemporaryFile("w+", errors="replace") as output:  # a pipe would be kept open by what it starts in the background
            done = subprocess.run(entered, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            output.seek(0)
            text = output.read()
        if done.returncode != 0:
            raise CommandFailed(command, done.returncode, text)
        return text

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file on its disk, also while it is off."""
        file = self._root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def journal(self, unit: str) -> str:
        """All that a unit logged, also before the last boot."""
        return self.run(f"journalctl --no-pager --output=short-iso-precise --unit={unit}")

    def console(self) -> str:
        """All that was printed on its console."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def _first_process(self) -> int:
        """The host's number of the node's PID 1."""
        first = next((process for process in self._group.processes() if _number_inside(process) == 1), None)
        if first is None:
            raise RuntimeError(f"{self.name} is off")
        return first

    def _ssh_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, SSH_PORT), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _lets_users_in(self) -> bool:
        """While it boots, and while it stops, PAM turns away all but root."""
        try:
            return not Path(f"/proc/{self._first_process()}/root/run/nologin").exists()
        except RuntimeError:
            return False


def _number_inside(process: int) -> int | None:
    """A process's number as those see it who share its PID namespace."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return int(numbers[-1]) if len(numbers) > 1 else None
