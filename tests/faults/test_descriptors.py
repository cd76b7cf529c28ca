"""File descriptors run out: the limit of a running daemon is lowered below what it has open, so that it can open nothing more."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.faults.surroundings import DAEMONS, Surroundings, surroundings

if not hasattr(resource, "prlimit"):
    pytest.skip("limits of another process are Linux's", allow_module_level=True)

FEW, MANY = 3, 1024
SAID = "no file descriptor is left in this process: raise LimitNOFILE"


@pytest.fixture
def far(tmp_path: Path, moto_server: Server) -> Iterator[Surroundings]:
    with surroundings(tmp_path, moto_server, "w1") as made:
        made.store.closes = made.queues.closes = True  # each request needs one
        yield made


def allow(far: Surroundings, name: str, n: int) -> None:
    _, most = resource.prlimit(pid := far.fleet.daemons[name].pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (n, most))


@pytest.mark.thorough
def test_descriptors_that_run_out_are_named_and_waited_for(far: Surroundings) -> None:
    far.begin()
    for name in DAEMONS:
        allow(far, name, FEW)
    for service in ("s3:", "the queue"):
        far.until_said(service, SAID)
    assert not far.is_over(), "it was in the middle of it"
    for name in DAEMONS:
        allow(far, name, MANY)
    far.assert_ends_right()


@pytest.mark.thorough
def test_what_a_worker_without_descriptors_holds_is_done_by_another(far: Surroundings) -> None:
    far.restart("w2")
    far.begin()
    allow(far, "w1", FEW)
    far.until_said(SAID, by=("w1",))
    assert not far.is_over(), "it was in the middle of it"
    far.assert_ends_right()
