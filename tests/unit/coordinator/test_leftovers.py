"""What ``tilefleet gc`` takes, and above all what it does not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from coordinator.core.plans import Plan
from coordinator.core.stages import ElementwiseStage
from coordinator.runtime.leftovers import Leftover, by_operation, remove, survey, useless
from tests.unit.coordinator.examples import record
from tilefleet import layout
from tilefleet.matrix import MatrixRef
from tilefleet.records import OperationStatus, State, to_json
from tilefleet.store import Entry, Store, Stores, file_url

OP, OTHER = "0123456789ab", "zzzzzzzzzzzz"
KEEPS = (layout.record(OP), layout.cancel(OP), layout.plan(OP, "main"), layout.status(OP, 1))
TEMPORARY = (
    layout.indexed(layout.parts(OP), 0), f"{layout.partial(OP)}/0/c/0/0", layout.indexed(layout.facts(OP, "scan"), 0),
    f"{layout.operand(OP, 'a')}/c/0/0", layout.open_mark(OP),
)  # fmt: skip
OF_RESULT = (f"{layout.result(OP)}/zarr.json", f"{layout.staging(OP)}/a/c/0/0")
STRANGE = (
    "notes.txt", "matrices/mine.zarr/c/0/0", "staging/readme", "operations/x/record.json", layout.leader(1),
    layout.dead("message-a"), "fleet/fleet.json",
)  # fmt: skip


def entries(*keys: str) -> list[Entry]:
    return [Entry(key, 1, 0.0) for key in keys]


def test_only_what_carries_an_operations_id_is_looked_at() -> None:
    found = by_operation(entries(*KEEPS, *TEMPORARY, *OF_RESULT, *STRANGE, layout.record(OTHER)))
    assert {operation: len(of) for operation, of in found.items()} == {OP: len((*KEEPS, *TEMPORARY, *OF_RESULT)), OTHER: 1}


@pytest.mark.parametrize(
    ("state", "goes"),
    [("done", TEMPORARY), ("failed", (*TEMPORARY, *OF_RESULT)), ("cancelled", (*TEMPORARY, *OF_RESULT)),
     ("", (*KEEPS, *TEMPORARY, *OF_RESULT))],
)  # fmt: skip
def test_what_is_of_no_use_depends_on_how_it_ended(state: str, goes: tuple[str, ...]) -> None:
    found = useless(entries(*KEEPS, *TEMPORARY, *OF_RESULT), state)
    assert {entry.key for entry in found} == set(goes)


async def fill(store: Store, state: State | None, *, has_record: bool = True) -> None:
    """Everything that an operation may have in the store, and what is none of its business."""
    for key in (*TEMPORARY, *OF_RESULT, *STRANGE):
        await store.put(key, b"x")
    if has_record:
        await store.put(layout.record(OP), to_json(record("add")))
    if state is not None:
        await store.put(layout.status(OP, 1), to_json(OperationStatus(OP, state, 1)))


async def keys(store: Store) -> set[str]:
    return {entry.key async for entry in store.entries()}


async def collected(store: Store, stores: Stores, older_s: float = 0.0) -> list[Leftover]:
    found = await survey(store, time.time() + 1, older_s)
    for one in found:
        await remove(store, stores, one)
    return found


@pytest.mark.parametrize("state", ["queued", "running", None])
async def test_what_is_open_stays_as_it_is(directory_store: Store, stores: Stores, state: State | None) -> None:
    await fill(directory_store, state)
    before = await keys(directory_store)
    assert await collected(directory_store, stores) == []
    assert await keys(directory_store) == before


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
async def test_what_ended_keeps_its_story_and_what_is_done_its_result(
    directory_store: Store, stores: Stores, state: State
) -> None:
    await fill(directory_store, state)
    [left] = await collected(directory_store, stores)
    assert (left.operation, left.state) == (OP, state)
    expected = {layout.record(OP), layout.status(OP, 1), *STRANGE, *(OF_RESULT if state == "done" else ())}
    assert await keys(directory_store) == expected
    assert await collected(directory_store, stores) == []


async def test_what_was_never_submitted_goes_when_it_is_old(directory_store: Store, stores: Stores) -> None:
    await fill(directory_store, None, has_record=False)
    assert await collected(directory_store, stores, older_s=3600) == []
    [left] = await collected(directory_store, stores)
    assert (left.state, left.n_objects) == ("", len((*TEMPORARY, *OF_RESULT)))
    assert await keys(directory_store) == set(STRANGE)


async def test_an_upload_that_gets_its_record_meanwhile_stays(directory_store: Store, stores: Stores) -> None:
    await fill(directory_store, None, has_record=False)
    [left] = await survey(directory_store, time.time() + 1, 0.0)
    await directory_store.put(layout.record(OP), to_json(record("add")))
    before = await keys(directory_store)
    await remove(directory_store, stores, left)
    assert await keys(directory_store) == before


async def test_tiles_beside_an_out_of_the_users_go_with_the_operation_that_staged_them(
    directory_store: Store, stores: Stores, tmp_path: Path
) -> None:
    staged, mine = tmp_path / f".c.zarr.partial-{OP}", tmp_path / "c.zarr"
    for directory in (staged, mine):
        (directory / "c" / "0").mkdir(parents=True)
        (directory / "c" / "0" / "0").write_bytes(b"x")
    out = MatrixRef(file_url(staged), "zarr", (1, 1), "float64", (1, 1), is_ours=True)
    stage = ElementwiseStage(name="add", phase="compute", out=out, block=(1, 1), terms=())
    await fill(directory_store, "failed")
    await directory_store.put(layout.plan(OP, "main"), to_json(Plan("main", (stage,))))
    await collected(directory_store, stores)
    assert not staged.exists()
    assert mine.exists()
