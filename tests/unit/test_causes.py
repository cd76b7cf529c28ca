"""What lies beneath an error of a library is said when this machine can mend it."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from tests.unit.test_aws import translated
from tilefleet import causes, store
from tilefleet.config import StoreSection
from tilefleet.errors import DoesNotFit, Unreachable
from tilefleet.store import Stores


def error_over(*causes_: Exception) -> OSError:
    """As botocore raises it: one error on top of the others."""
    top = OSError("could not connect to the endpoint URL")
    error: BaseException = top
    for cause in causes_:
        error.__cause__ = cause
        error = cause
    return top


def test_descriptors_that_ran_out_are_named_however_deep() -> None:
    error = error_over(ValueError("x"), OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert "raise LimitNOFILE" in causes.local(error)
    assert "raise LimitNOFILE" in str(translated(error))
    assert "raise LimitNOFILE" in str(store.translated(error, "s3://b/a"))


def test_a_name_is_not_blamed_when_the_resolver_could_open_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> int:
        raise OSError(errno.EMFILE, "full")

    error = error_over(socket.gaierror(-3, "Temporary failure in name resolution"))
    assert causes.local(error) == causes.NAMES
    monkeypatch.setattr(os, "dup", full)
    assert causes.local(error) == causes.DESCRIPTORS


async def test_a_name_that_does_not_resolve_is_said() -> None:
    nowhere = Stores(StoreSection(endpoint_url="http://nowhere.invalid:9", region="us-east-1")).open("s3://bucket")
    with pytest.raises(Unreachable, match="does not resolve: check the DNS"):
        await nowhere.get("a")


def test_what_is_somebody_elses_fault_is_not_explained() -> None:
    assert causes.local(error_over(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"))) == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_or_quota_that_is_full_is_said_whoever_notices(number: int) -> None:
    for error in (OSError(number, os.strerror(number)), OSError(f"Generic LocalFileSystem error: (os error {number})")):
        found = store.translated(error, "/srv/x")
        assert isinstance(found, DoesNotFit)
        assert "/srv/x is full, or its quota" in str(found)
