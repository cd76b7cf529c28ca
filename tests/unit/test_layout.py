"""Keys of the store: none collides with another, and numbers read back in order."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet import layout

OP = "3f9k2m7q0xyz"


def _keys() -> list[str]:
    given_values = {
        "op": OP, "part": "main", "stage": "scan", "name": "a", "epoch": 7, "prefix": "p", "index": 3, "number": 9,
        "machine": "i-0abc", "digest": "5f0e", "file": "tilefleet.whl",
    }  # fmt: skip
    functions = [f for _, f in inspect.getmembers(layout, inspect.isfunction) if inspect.signature(f).return_annotation == "str"]
    return [function(*(given_values[name] for name in inspect.signature(function).parameters)) for function in functions]


def test_all_keys_differ_and_are_relative() -> None:
    keys = _keys()
    assert len(keys) > 15
    assert len(set(keys)) == len(keys)
    assert all(not key.startswith("/") and ".." not in key and "//" not in key for key in keys)


def test_everything_about_an_operation_lies_below_its_prefix() -> None:
    for key in (layout.record(OP), layout.cancel(OP), layout.plan(OP, "main"), layout.status(OP, 1), layout.operand(OP, "a")):
        assert key.startswith(f"{layout.operation(OP)}/")
    assert layout.status(OP, 1).startswith(layout.statuses(OP) + "/")


def test_the_open_mark_of_an_operation_can_be_listed() -> None:
    assert layout.open_mark(OP) == f"{layout.OPEN}/{OP}"


@given(st.integers(0, 10**8 - 1), st.integers(0, 10**8 - 1))
def test_indexed_keys_read_back_and_sort_as_numbers(a: int, b: int) -> None:
    assert layout.index_of_key(layout.indexed("p", a)) == a
    assert (layout.indexed("p", a) < layout.indexed("p", b)) == (a < b)


@given(st.integers(0, 999_999))
def test_epochs_read_back(epoch: int) -> None:
    for key in (layout.leader(epoch), layout.control(epoch), layout.status(OP, epoch)):
        assert layout.epoch_of_key(key) == epoch


@pytest.mark.parametrize("key", ["", "leader/", "leader/x", "control/1.txt", "leader/-1", "leader/²"])
def test_keys_of_another_kind(key: str) -> None:
    assert layout.epoch_of_key(key) is None
    assert layout.index_of_key(key) is None


def test_a_fleets_own_keys_are_known_and_those_that_people_put_beside_them_are_not() -> None:
    below = [
        key + "/x"
        for key in (layout.operand(OP, "a"), layout.partial(OP), layout.parts(OP), layout.result(OP), layout.staging(OP))
    ]
    own = [key for key in _keys() if not key.startswith(("p/", layout.OWNERS))]
    own = [key for key in own if key not in {layout.operation(OP), layout.result(OP), layout.staging(OP)}] + below
    own.append("probe-3f9k2m7q")  # of a worker that was killed while it measured
    assert [key for key in own if not layout.is_own(key)] == []
    people = ["C.zarr/zarr.json", "matrices/mine.npy", "operations/notes.txt", "fleetwide.csv", "probe-results.npy",
              "open/question.md", "dead/a/b.json", "leader/of/the/pack", "staging", f"x/{layout.record(OP)}"]  # fmt: skip
    assert [key for key in people if layout.is_own(key)] == []
