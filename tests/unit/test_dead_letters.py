"""Dead letters as people handle them: found by name, removed, and sent again only where somebody waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tilefleet import layout
from tilefleet.config import Config, LocalSection
from tilefleet.dead_letters import find, letters, purge, redrive
from tilefleet.errors import BadInput, NotFound
from tilefleet.queues import REJECTED_BODY_BYTES
from tilefleet.records import DeadLetter, OperationStatus, to_json
from tilefleet.session import Session
from tilefleet.store import Store

OP = "0123456789ab"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A client of an embedded deployment that does not run."""
    yield Session(Config(local=LocalSection(state_dir=str(tmp_path))))


async def put(store: Store, name: str, *, at: float = 1.0, operation: str = "", body: str = "{}") -> None:
    await store.put(layout.dead(name), to_json(DeadLetter(at, "local-jobs-dead", "nobody took it", body, operation)))


async def test_the_newest_come_first_and_one_that_nobody_can_read_is_listed(directory_store: Store) -> None:
    await put(directory_store, "message-aa", at=1.0)
    await put(directory_store, "message-ab", at=2.0)
    await directory_store.put(layout.dead("message-zz"), b"{")
    found = await letters(directory_store)
    assert [one.name for one in found] == ["message-ab", "message-aa", "message-zz"]
    assert "message-zz.json" in found[-1].letter.reason


async def test_a_beginning_means_one_letter(directory_store: Store) -> None:
    await put(directory_store, "message-aa")
    await put(directory_store, "message-ab")
    assert [one.name for one in await find(directory_store, ["message-ab"])] == ["message-ab"]
    with pytest.raises(BadInput, match="'message-a' means 2 dead letters; write more of the name: message-aa, message-ab"):
        await find(directory_store, ["message-a"])
    with pytest.raises(NotFound, match=r"there is no dead letter '../x'; 'tilefleet dead list' shows what there is"):
        await find(directory_store, ["../x"])


async def test_purging_removes_those_and_no_others(directory_store: Store) -> None:
    await put(directory_store, "message-aa")
    await put(directory_store, "message-ab")
    await purge(directory_store, await find(directory_store, ["message-aa"]))
    assert [one.name for one in await letters(directory_store)] == ["message-ab"]


@pytest.mark.parametrize(("state", "says"), [("failed", "which is failed"), (None, "which is not known any more")])
async def test_a_job_that_nobody_waits_for_is_not_sent_again(session: Session, state: str | None, says: str) -> None:
    await put(session.store, f"{OP}-aa", operation=OP)
    if state is not None:
        await session.store.put(layout.status(OP, 1), to_json(OperationStatus(OP, "failed", 1)))
    with pytest.raises(
        BadInput, match=f"is a job of operation {OP}, {says}: nobody would wait for it; submit the operation again"
    ):
        await redrive(session, await letters(session.store))
    assert len(await letters(session.store)) == 1


async def test_what_cannot_be_sent_again_says_why(session: Session) -> None:
    await put(session.store, "message-aa", body="x" * REJECTED_BODY_BYTES)
    with pytest.raises(BadInput, match=f"only the first {REJECTED_BODY_BYTES} bytes were kept"):
        await redrive(session, await letters(session.store))
    await purge(session.store, await letters(session.store))
    await put(session.store, "message-ab")
    with pytest.raises(BadInput, match="does not run; start it with 'tilefleet local up'"):
        await redrive(session, await letters(session.store))
