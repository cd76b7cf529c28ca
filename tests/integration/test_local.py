"""The embedded deployment with its real daemons: who starts it, what keeps it up, what is left when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tilefleet import local
from tilefleet.config import Config, LocalSection, load
from tilefleet.errors import NotAllowed, TilefleetError
from tilefleet.ids import OPERATION_ID_LENGTH
from tilefleet.local import Deployment
from tilefleet.local_state import StateFiles, last_lines, supervisor_pid

DEADLINE_S = 60
OPERATION = "7" * OPERATION_ID_LENGTH
CLIENT = """
import asyncio, sys
from tilefleet import local
from tilefleet.config import Config, LocalSection
async def main():
    async with local.hold(Config(local=LocalSection(state_dir=sys.argv[1], workers=1))) as deployment:
        print(deployment.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


def processes_in(root: Path) -> list[psutil.Process]:
    """Every process of the deployment with this state directory: they all work inside it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(root):
                found.append(process)
    return found


def end_all_in(root: Path) -> None:
    for process in processes_in(root):
        with contextlib.suppress(psutil.Error):
            process.kill()
    until_now(lambda: not processes_in(root))


def until_now(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110 - other processes raise no events here
            await asyncio.sleep(0.05)


@pytest.fixture
def new_config(tmp_path: Path) -> Iterator[Callable[..., Config]]:
    """Makes configurations, each with a state directory of its own; ends whatever was started in them."""
    roots: list[Path] = []

    def make(name: str = "state", workers: int = 1) -> Config:
        roots.append(tmp_path / name)
        return Config(local=LocalSection(state_dir=str(roots[-1]), workers=workers))

    yield make
    for root in roots:
        end_all_in(root)


@pytest.fixture
def config(new_config: Callable[..., Config]) -> Config:
    return new_config()


def files_of(config: Config) -> StateFiles:
    return StateFiles(local.state_dir(config))


def all_pids(deployment: Deployment) -> list[int]:
    return [deployment.pid, *deployment.children.values()]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_listening(endpoint_url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(endpoint_url.rpartition(":")[2]))) == 0


def status_without_key(endpoint_url: str) -> str:
    """HTTP status of the answer to a request that somebody else on this machine sends."""
    host, port = endpoint_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        stranger.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AmazonSQS.ListQueues\r\nContent-Length: 2\r\n\r\n{}")
        return stranger.makefile("rb").readline().decode().split()[1]


async def test_life_of_a_deployment(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the user's own")
    monkeypatch.setenv("AWS_PROFILE", "work")  # there is no such profile: the queues must not mind
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nor go there
    files = files_of(config)
    assert local.running(config) is None
    assert not files.root.exists()  # asking starts nothing and makes nothing
    async with local.hold(config) as deployment, local.hold(config) as same:
        assert same == deployment == local.running(config)
        assert sorted(deployment.children) == ["coordinator", "queues", "w1"]
        assert all(map(is_alive, all_pids(deployment)))
        check_private(files, deployment)
        check_environment(deployment)
        assert status_without_key(deployment.endpoint_url) == "403"
        stale = files.deployment.read_bytes()
        daemons = load(files.config("daemon"))
        assert (daemons.store.url, daemons.store.allow_local_files) == (files.store.as_uri(), True)
        assert (daemons.queues.endpoint_url, config.fleet.kind) == (deployment.endpoint_url, "local")
    await until(lambda: not processes_in(files.root))
    assert not is_listening(deployment.endpoint_url)
    assert [path.name for path in files.run.iterdir()] == ["lock"]
    files.deployment.write_bytes(stale.replace(str(deployment.pid).encode(), str(os.getpid()).encode()))  # a reused pid: it lives
    assert local.running(config) is None
    assert supervisor_pid(files) is None
    assert not await local.shut_down(config)


ADD = """
import sys
import numpy as np
import tilefleet
with tilefleet.connect() as client:
    operation = client.add(np.eye(3), np.eye(3))
    operation.wait()
    total = np.asarray(operation.result())
assert (total == 2 * np.eye(3)).all()
print([name for name in ("aioboto3", "aiobotocore", "aiohttp") if name in sys.modules])
"""


async def test_a_client_needs_no_client_of_the_queues(config: Config) -> None:
    """And is heard at once: the coordinator would find its operation by itself after half a minute."""
    async with local.hold(config):
        environment = {**os.environ, "TILEFLEET_STATE": config.local.state_dir}
        client = await asyncio.create_subprocess_exec(sys.executable, "-c", ADD, env=environment, stdout=subprocess.PIPE)
        said, _ = await asyncio.wait_for(client.communicate(), 20)
    assert (client.returncode, said) == (0, b"[]\n")


def check_private(files: StateFiles, deployment: Deployment) -> None:
    for directory in (files.root, files.store, files.run, files.logs):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in (*files.run.iterdir(), *files.logs.iterdir(), *files.sockets.iterdir()):
        assert (path.name, stat.S_IMODE(path.stat().st_mode) & 0o077) == (path.name, 0)
    assert not list(files.store.glob("probe*"))
    for process in map(psutil.Process, all_pids(deployment)):
        line = " ".join(process.cmdline())
        assert deployment.access_key not in line
        assert deployment.secret_key not in line
    assert deployment.secret_key not in repr(deployment)


def check_environment(deployment: Deployment) -> None:
    for name, pid in deployment.children.items():
        environment = psutil.Process(pid).environ()
        if name == "queues":
            assert environment["AWS_SECRET_ACCESS_KEY"] == deployment.secret_key
            assert "AWS_PROFILE" not in environment
        else:
            assert (environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_PROFILE"]) == ("the user's own", "work")
            assert environment["TILEFLEET_QUEUES_SECRET_KEY"] == deployment.secret_key


@pytest.mark.thorough
async def test_ten_clients_at_once_get_one_deployment(config: Config) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(CLIENT, config)) for _ in range(10)]
        async with asyncio.timeout(DEADLINE_S):
            pids = {int(await process.stdout.readline()) for process in clients if process.stdout}
        assert len(pids) == 1
        supervisors = [process for process in processes_in(files_of(config).root) if "supervisor" in " ".join(process.cmdline())]
        assert [process.pid for process in supervisors] == list(pids)
    await until(lambda: not processes_in(files_of(config).root))  # the clients were killed: nobody needs it


async def test_ctrl_c_in_the_terminal_of_the_client_that_started_it(config: Config) -> None:
    async with client(CLIENT, config) as process:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)
        async with local.hold(config) as deployment:
            os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the whole foreground group
            assert await asyncio.wait_for(process.wait(), DEADLINE_S) != 0
            assert all(map(is_alive, all_pids(deployment)))
            assert local.running(config) == deployment


@contextlib.asynccontextmanager
async def client(program: str, config: Config) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        config.local.state_dir,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.thorough
async def test_it_stays_while_pinned_and_while_an_operation_is_open(config: Config) -> None:
    files = files_of(config)
    async with local.hold(config, pin=True) as deployment:
        now = local.running(config)
        assert now is not None
        assert now.is_pinned
    await asyncio.sleep(2.5)  # longer than the grace
    assert files.socket("supervisor").exists()
    assert is_alive(deployment.pid)
    async with local.hold(config):
        (files.store / "open").mkdir(exist_ok=True)
        (files.store / "open" / OPERATION).write_bytes(b"")
        await unpin(files)
    await asyncio.sleep(2.5)
    assert files.socket("supervisor").exists()
    assert is_alive(deployment.pid)
    (files.store / "open" / OPERATION).unlink(missing_ok=True)
    await until(lambda: not processes_in(files.root))


async def unpin(files: StateFiles) -> None:
    reader, writer = await asyncio.open_unix_connection(str(files.socket("supervisor")))
    writer.write(b'{"do":"unpin"}\n')
    assert b"unpinned" in await reader.readline()
    writer.close()


async def test_killing_the_supervisor_ends_all_and_the_holder_brings_it_back(config: Config) -> None:
    files = files_of(config)
    hold = local.hold(config)
    async with hold as before:
        (files.store / "matrices").mkdir(exist_ok=True)
        (files.store / "matrices" / "kept").write_bytes(b"a result")
        os.kill(before.pid, signal.SIGKILL)
        await until(lambda: not any(map(is_alive, all_pids(before))))
        await until(lambda: local.running(config) is not None)
        after = local.running(config)
        assert after is not None
        assert after.pid != before.pid
        assert (after.endpoint_url, after.access_key, after.secret_key) == (
            before.endpoint_url,
            before.access_key,
            before.secret_key,
        )
        assert (files.store / "matrices" / "kept").read_bytes() == b"a result"
        assert not hold.gone.is_set()


async def test_a_killed_child_comes_back_under_the_same_endpoint(config: Config) -> None:
    async with local.hold(config) as deployment:
        for name, pid in deployment.children.items():
            os.kill(pid, signal.SIGKILL)
            await until(lambda name=name, pid=pid: pid_of(config, name) not in {None, pid})  # type: ignore[misc]
        await until(lambda: is_listening(deployment.endpoint_url))
        now = local.running(config)
        assert now is not None
        assert (now.pid, now.endpoint_url, now.access_key) == (deployment.pid, deployment.endpoint_url, deployment.access_key)


def pid_of(config: Config, name: str) -> int | None:
    now = local.running(config)
    return now.children.get(name) if now else None


@pytest.mark.thorough
async def test_two_deployments_stopped_while_they_are_held(new_config: Callable[..., Config]) -> None:
    first, second = new_config("first"), new_config("d" * 120)  # too long a path for a unix socket
    files = files_of(second)
    one, two = local.hold(first), local.hold(second)
    async with one as a, two as b, asyncio.timeout(DEADLINE_S):
        assert a.endpoint_url != b.endpoint_url
        assert a.access_key != b.access_key
        assert files.sockets != files.run
        assert stat.S_IMODE(files.sockets.stat().st_mode) == 0o700
        assert await local.shut_down(first)
        await one.gone.wait()
        assert not any(map(is_alive, all_pids(a)))
        assert all(map(is_alive, all_pids(b)))
        assert not two.gone.is_set()
        assert not await local.shut_down(first)
        os.kill(b.pid, signal.SIGTERM)
        await two.gone.wait()
        await until(lambda: not processes_in(files.root))
        assert not files.sockets.exists()


async def test_a_child_that_cannot_start_says_why(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "moto.py").write_text("raise ImportError('moto is broken here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"), prepend=os.pathsep)
    with pytest.raises(TilefleetError, match=r"queues of the embedded deployment.*moto is broken here"):
        async with local.hold(config):
            pass
    await until(lambda: not processes_in(files_of(config).root))


async def test_a_state_directory_that_cannot_be_used(tmp_path: Path, new_config: Callable[..., Config]) -> None:
    (tmp_path / "file").write_text("not a directory")
    config = new_config("file/state")
    with pytest.raises(NotAllowed, match=r"the state directory .*/file/state cannot be used: Not a directory; name another with"):
        async with local.hold(config):
            pass


def test_where_the_state_lies(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert local.state_dir(config) == Path(config.local.state_dir)
    monkeypatch.setenv("TILEFLEET_STATE", str(tmp_path / "other"))
    assert local.state_dir(config) == tmp_path / "other"
    monkeypatch.delenv("TILEFLEET_STATE")
    assert local.state_dir(Config()).name == "tilefleet"


def test_last_lines_of_this_run_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("".join(f"line {n}\n" for n in range(9)))
    assert last_lines(log, start=start, count=2) == ["line 7", "line 8"]
    assert last_lines(tmp_path / "absent") == []
