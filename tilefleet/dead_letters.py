"""Dead letters as people handle them. The coordinator puts them into the store; here they are listed, sent again, removed.

The rule: a letter goes only when it was sent again, or when somebody says so.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from tilefleet import layout, local
from tilefleet.bounded import for_each
from tilefleet.config import load
from tilefleet.errors import BadInput, NotFound
from tilefleet.queues import REJECTED_BODY_BYTES
from tilefleet.records import DeadLetter, from_json
from tilefleet.session import Session
from tilefleet.sqs import DEAD_SUFFIX, SqsQueue, SqsQueues
from tilefleet.statuses import newest_status
from tilefleet.store import Store

READS_AT_ONCE = 16


class Kept(NamedTuple):
    """A letter and its name in the store."""

    name: str
    letter: DeadLetter


async def letters(store: Store) -> list[Kept]:
    """All of them, the newest first. One that nobody can read is listed with that as its reason."""
    found: list[Kept] = []

    async def look(key: str) -> None:
        name = key.rsplit("/", 1)[-1].removesuffix(".json")
        try:
            found.append(Kept(name, from_json(bytes(await store.get(key)), DeadLetter, store.url_of(key))))
        except NotFound:
            return
        except BadInput as error:
            found.append(Kept(name, DeadLetter(0.0, "", str(error), "")))

    await for_each([entry.key async for entry in store.entries(layout.DEAD)], look, concurrency=READS_AT_ONCE, name="dead")
    return sorted(found, key=lambda one: (-one.letter.at, one.name))


async def find(store: Store, beginnings: list[str]) -> list[Kept]:
    """The letters whose names begin so. Raises NotFound, and BadInput where one beginning means several."""
    known, found = await letters(store), []
    for beginning in beginnings:
        meant = [one for one in known if one.name.startswith(beginning)]
        if not meant:
            raise NotFound(f"there is no dead letter {beginning!r}; 'tilefleet dead list' shows what there is")
        if len(meant) > 1:
            raise BadInput(
                f"{beginning!r} means {len(meant)} dead letters; write more of the name: {meant[0].name}, {meant[1].name} …"
            )
        found += meant
    return found


async def purge(store: Store, kept: list[Kept]) -> None:
    """Remove letters."""
    await store.delete([layout.dead(one.name) for one in kept])


async def redrive(session: Session, kept: list[Kept]) -> None:
    """Send the messages to the queues they came from, and remove the letters.

    Raises BadInput, before anything is sent, for what cannot be of use there.
    """
    for one in kept:
        await _check(session, one)
    async with await asyncio.to_thread(_queues, session) as queues:
        by_name = {queue.name + DEAD_SUFFIX: queue for queue in (queues.operations, queues.jobs, queues.completions)}
        for one in kept:
            await _send(by_name, one)
            await purge(session.store, [one])


async def _send(by_name: dict[str, SqsQueue], one: Kept) -> None:
    if one.letter.queue not in by_name:
        raise BadInput(
            f"{one.name} came to the queue {one.letter.queue!r}, which is none of this fleet; remove it with 'dead purge'"
        )
    await by_name[one.letter.queue].send([one.letter.body])


async def _check(session: Session, one: Kept) -> None:
    if len(one.letter.body.encode()) >= REJECTED_BODY_BYTES:
        raise BadInput(f"of {one.name} only the first {REJECTED_BODY_BYTES} bytes were kept, so it cannot be sent again")
    if not one.letter.operation:
        return
    status = await newest_status(session.store, one.letter.operation)
    if status is None or status.is_ended:
        state = "is not known any more" if status is None else f"is {status.state}"
        raise BadInput(
            f"{one.name} is a job of operation {one.letter.operation}, which {state}: nobody would wait for it; "
            f"submit the operation again ('tilefleet show {one.letter.operation}' has its command), then remove the letter"
        )


def _queues(session: Session) -> SqsQueues:
    """The fleet's queues. Raises BadInput when they are those of an embedded deployment that does not run."""
    if not session.is_local:
        return SqsQueues(session.config.queues, session.config.fleet.name)
    deployment = local.running(session.config)
    if deployment is None:
        raise BadInput("the embedded deployment, whose queues these are, does not run; start it with 'tilefleet local up'")
    config = load(Path(deployment.config_path))
    return SqsQueues(config.queues, config.fleet.name, credentials=(deployment.access_key, deployment.secret_key))
