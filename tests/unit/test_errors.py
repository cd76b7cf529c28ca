"""Errors: every code has its own exit status, and survives the wire."""

from __future__ import annotations

import pytest

from tilefleet import errors
from tilefleet.errors import ErrorInfo, TilefleetError


def _all(cls: type[TilefleetError] = TilefleetError) -> list[type[TilefleetError]]:
    return [cls] + [below for child in cls.__subclasses__() if child.__module__ == errors.__name__ for below in _all(child)]


def test_every_error_has_a_code_and_an_exit_status_of_its_own() -> None:
    assert len({cls.code for cls in _all()}) == len({cls.exit_code for cls in _all()}) == len(_all())


def test_exit_statuses_leave_out_those_with_another_meaning() -> None:
    # 0 success, 2 usage (the shell's and typer's), 70 parent gone, 75 drained late, 126–255 the shell's and signals
    assert all(cls.exit_code not in {0, 2, 70, 75} and cls.exit_code < 126 for cls in _all())


@pytest.mark.parametrize("cls", _all(), ids=lambda cls: cls.code)
def test_an_error_comes_back_from_the_wire_as_the_same_class(cls: type[TilefleetError]) -> None:
    error = ErrorInfo.of(cls("a.csv, line 3: ragged")).to_exception()
    assert type(error) is cls
    assert str(error) == "a.csv, line 3: ragged"


def test_an_exception_that_is_not_ours_keeps_its_type_in_the_sentence() -> None:
    assert ErrorInfo.of(ZeroDivisionError("division by zero")) == ErrorInfo("internal", "ZeroDivisionError: division by zero")


def test_an_exception_that_says_nothing_ends_without_a_colon() -> None:
    assert ErrorInfo.of(MemoryError()) == ErrorInfo("internal", "MemoryError")


def test_a_code_from_a_newer_version_is_still_an_error() -> None:
    error = ErrorInfo("eaten_by_a_grue", "it was dark").to_exception()
    assert (type(error), str(error)) == (TilefleetError, "it was dark")
