"""DNS fails: for some seconds the daemons, in a mount namespace with hosts of its own, find no address for S3 and SQS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.faults.surroundings import DAEMONS, Surroundings, surroundings

NAME = "somewhere"  # without a dot, as the stand-in takes what is before one for a bucket
_IN_PLACE = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'


class Names:
    """What a resolver knows: this file, and a name server that does not answer."""

    def __init__(self, directory: Path) -> None:
        self._hosts, resolver = directory / "hosts", directory / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\n", encoding="utf-8")
        self.inside = ("unshare", "--mount", "/bin/sh", "-c", _IN_PLACE, "sh", str(self._hosts), str(resolver))
        self.know(NAME)

    def know(self, *names: str) -> None:
        """The file stays the same one: it is mounted."""
        self._hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *names)), encoding="utf-8")


@pytest.fixture
def names(tmp_path: Path) -> Names:
    made = Names(tmp_path)
    try:
        subprocess.run([*made.inside, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a mount namespace needs root on Linux: {error}")
    return made


@pytest.fixture
def far(tmp_path: Path, moto_server: Server, names: Names) -> Iterator[Surroundings]:
    with surroundings(tmp_path, moto_server) as made:
        made.store.closes = made.queues.closes = True  # a connection that stays needs no name
        made.configure("127.0.0.1", NAME)
        for daemon in DAEMONS:
            made.restart(daemon, names.inside)
        yield made


@pytest.mark.thorough  # aiohttp remembers an address for 10 s
def test_names_that_do_not_resolve_for_a_while_are_waited_for(far: Surroundings, names: Names) -> None:
    far.begin()
    names.know()
    for service in ("s3:", "the queue"):
        far.until_said(service, "its name does not resolve")
    assert not far.is_over(), "it was in the middle of it"
    names.know(NAME)
    far.assert_ends_right()
