"""Getting into a node by asyncssh: which keys we have, and what is seen on the way in.

The rule: every way of not getting in is one of ``refusals``' sentences.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shlex
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coordinator.fleet.connections import refusals
from coordinator.fleet.connections.known_hosts import fingerprint
from coordinator.fleet.connections.refusals import Destination
from tilefleet.errors import NotAllowed, NotFound, TilefleetError
from tilefleet.fleet_config import SshSection

if TYPE_CHECKING:
    import asyncssh

CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"  # machines have them in hardware
LOG_IN_S = 20.0  # from a TCP connection to a first command; a small instance that is booting takes five
MISSED = 3  # signs of life
HOST_KEY_KINDS = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
OWN_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
# Who we are, and whether we may be root, after a word that a login script does not print by chance.
_PROBE = 'echo "tilefleet $(id -u)"; test "$(id -u)" = 0 || LC_ALL=C sudo -n true 2>&1'


class Keys(NamedTuple):
    loaded: list[asyncssh.SSHKey]
    names: list[str]
    """What they are called in a sentence."""
    has_agent: bool


class Login:
    """One try at opening a connection, and what was seen on the way."""

    def __init__(self, to: Destination, keys: Keys, settings: SshSection, began: float, deadline_s: float) -> None:
        self._to = to
        self._keys = keys
        self._settings = settings
        self._began = began
        self._ends_at = began + deadline_s
        self._offered = list(keys.names)
        self._limit: asyncio.Timeout | None = None
        self._is_answered = False
        self._seen_key = ""
        self._banner = ""
        self._agent: asyncssh.SSHAgentClient | None = None

    async def open(self, tunnel: asyncssh.SSHClientConnection | None = None) -> asyncssh.SSHClientConnection:
        """Raises what ``refusals`` has for it."""
        import asyncssh

        if not self._to.host_keys:
            raise refusals.unknown_host_key(self._to)
        _silence_the_log()
        try:
            pinned = [asyncssh.import_public_key(key) for key in self._to.host_keys]
            async with asyncio.timeout(self._within(self._settings.connect.s)) as self._limit:
                return await asyncssh.connect(
                    self._to.address,
                    self._to.port,
                    tunnel=tunnel or (),
                    config=None,
                    username=self._to.user,
                    known_hosts=(pinned, [], []),
                    server_host_key_algs=_kinds(pinned),
                    client_factory=self._client,
                    client_keys=self._keys.loaded or None,
                    agent_path=None,  # asyncssh would try all of the agent's keys before the one that was named
                    preferred_auth="publickey",
                    gss_host=None,
                    encryption_algs=CIPHERS,
                    compression_algs=["none"],  # what is sent is packed
                    keepalive_interval=self._settings.keepalive.s,
                    keepalive_count_max=MISSED,
                )
        except (OSError, ValueError, asyncssh.Error) as error:
            raise self._explained(error) from error
        finally:
            if self._agent is not None:
                self._agent.close()

    async def needs_sudo(self, connection: asyncssh.SSHClientConnection) -> bool:
        """Whether root is another user. Raises NotAllowed when we cannot become root, or have no shell to ask."""
        import asyncssh

        try:
            async with asyncio.timeout(self._within(LOG_IN_S)):
                done = await connection.run(f"/bin/sh -c {shlex.quote(_PROBE)}", stderr=asyncssh.STDOUT, errors="replace")
        except (OSError, asyncssh.Error) as error:
            connection.abort()
            if isinstance(error, asyncssh.ChannelOpenError):
                raise refusals.no_shell(self._to, error.reason) from error
            raise self._explained(error) from error
        except BaseException:
            connection.abort()
            raise
        lines = str(done.stdout).strip().splitlines()
        user_id = next((line.split()[1] for line in lines if line.startswith("tilefleet ")), None)
        if user_id is not None and done.exit_status == 0:
            return user_id != "0"
        connection.abort()
        if user_id is None:
            raise refusals.no_shell(self._to, " ".join(lines[-2:]))
        raise refusals.no_sudo(self._to, " ".join(lines[-1:]) if len(lines) > 1 else "")

    def _client(self) -> asyncssh.SSHClient:
        import asyncssh

        login = self

        class Client(asyncssh.SSHClient):
            """Tells us what asyncssh sees."""

            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                login._answered()

            def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
                login._seen_key = key.export_public_key().decode().strip()
                return False

            def auth_banner_received(self, msg: str, lang: str) -> None:
                login._banner = " ".join(msg.split())

            async def public_key_auth_requested(self) -> Any:
                return await login._agent_keys()

        return Client()

    def _answered(self) -> None:
        self._is_answered = True
        if self._limit is not None:
            with suppress(RuntimeError):  # the limit has passed in the same moment
                self._limit.reschedule(asyncio.get_running_loop().time() + self._within(LOG_IN_S))

    def _within(self, limit_s: float) -> float:
        """A limit of its own, within the deadline of all tries."""
        return max(0.1, min(limit_s, self._ends_at - asyncio.get_running_loop().time()))

    async def _agent_keys(self) -> Any:
        """The agent's keys, once, when all others were refused."""
        import asyncssh

        if not self._keys.has_agent or self._agent is not None:
            return None
        with suppress(OSError, ValueError, asyncssh.Error):  # an agent that is gone has no keys
            self._agent = await asyncssh.connect_agent()
            found = await self._agent.get_keys()
            self._offered.append(f"{len(found)} of your ssh-agent")
            return found
        return None

    def _explained(self, error: Exception) -> TilefleetError:  # noqa: PLR0911  one line per kind of failure
        import asyncssh

        to, tried_s = self._to, asyncio.get_running_loop().time() - self._began
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return refusals.wrong_host_key(to, self._seen_key)
        if isinstance(error, asyncssh.PermissionDenied):
            return refusals.key_refused(to, self._offered, self._banner)
        if isinstance(error, asyncssh.ChannelOpenError):
            return refusals.beyond_the_bastion(to, tried_s, error.reason)
        if isinstance(error, asyncssh.KeyImportError):
            return NotAllowed(f"a pinned host key of {to.who} is damaged: {error}")
        if isinstance(error, socket.gaierror):
            return refusals.unknown_name(to, is_final=error.errno != socket.EAI_AGAIN)
        if isinstance(error, TimeoutError):
            return refusals.hanging(to, tried_s) if self._is_answered else refusals.silent(to, tried_s)
        if self._is_answered or isinstance(error, asyncssh.Error):
            return refusals.hung_up(to, tried_s, self._banner or said(error))
        if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
            return refusals.refused(to, tried_s)
        return refusals.no_route(to, tried_s, said(error))


def _kinds(pinned: list[asyncssh.SSHKey]) -> list[str]:
    """Of host keys: those that are pinned, then all others, so that a wrong one is seen instead of a connection that ends."""
    wanted = [kind.decode() for key in pinned for kind in key.sig_algorithms]
    return list(dict.fromkeys([*wanted, *HOST_KEY_KINDS]))


def key_files(named: str, fleets: Path, has_own_hosts: bool) -> list[Path]:
    if named:
        return [Path(named).expanduser()]
    own = [Path("~/.ssh").expanduser() / name for name in OWN_KEYS] if has_own_hosts else []
    return [path for path in (fleets, *own) if path.exists()]


def load_keys(paths: list[Path], *, has_agent: bool) -> Keys:
    """Raises a sentence for a key that cannot be used, unless there are others that may serve."""
    keys = Keys([], [], has_agent)
    for path in paths:
        try:
            key = _load_key(path)
        except NotAllowed:
            if len(paths) == 1 and not has_agent:
                raise
            continue  # a key with a passphrase is for the agent
        keys.loaded.append(key)
        keys.names.append(f"{path} ({fingerprint(key.export_public_key().decode())})")
    return keys


def _load_key(path: Path) -> asyncssh.SSHKey:
    import asyncssh

    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise NotAllowed(f"the key {path} can be read by others than you, so no ssh will use it; say: chmod 600 {path}")
        return asyncssh.read_private_key(path)
    except FileNotFoundError:
        raise NotFound(f"there is no key {path}; name the right one as ssh.key_file") from None
    except OSError as error:
        raise NotAllowed(f"the key {path} cannot be read: {said(error)}") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        if "assphrase" in str(error):
            raise NotAllowed(f"the key {path} has a passphrase, which nobody can be asked for; say: ssh-add {path}") from error
        raise NotAllowed(f"{path} is no private key of SSH's: {error}") from error


def said(error: Exception) -> str:
    return (getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error) or type(error).__name__).rstrip(". \n")


def _silence_the_log() -> None:
    """What asyncssh logs repeats what we raise, in other words and on a stream that is ours."""
    log = logging.getLogger("asyncssh")
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.NullHandler())
