"""A second request for a read that is late: when, how many, and whose answer counts."""

from __future__ import annotations

import asyncio

import pytest

from tilefleet.errors import NotFound, Unreachable
from tilefleet.hedging import LEAST_KNOWN, LEAST_S, LENGTHS, MOST_BYTES, REMEMBERED, Hedge, Usual

N_BYTES = 1000


class Server:
    """Answers each request as told, in order: after how many seconds, with what."""

    def __init__(self, *answers: tuple[float, int | Exception]) -> None:
        self.answers = list(answers)
        self.n_asked, self.n_dropped = 0, 0

    async def ask(self) -> int:
        wait_s, answer = self.answers[self.n_asked]
        self.n_asked += 1
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            self.n_dropped += 1
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer


async def hedge_that_knows(n_bytes: int = N_BYTES) -> Hedge:
    """Reads of that length take no time."""
    hedge, quick = Hedge(), Server(*[(0.0, 1)] * LEAST_KNOWN)
    for _ in range(LEAST_KNOWN):
        await hedge.read(n_bytes, quick.ask)
    return hedge


def usual(*took_s: float) -> Usual:
    known = Usual()
    for seconds in took_s:
        known.add(seconds)
    return known


def test_patience_is_three_times_what_nine_in_ten_take() -> None:
    assert usual(*[1.0] * (LEAST_KNOWN - 1)).patience_s is None
    assert usual(*[1.0] * LEAST_KNOWN).patience_s == 3.0
    assert usual(*[1.0] * 95, *[60.0] * 5).patience_s == 3.0, "the tail does not count"
    assert usual(*[1.0] * 80, *[2.0] * REMEMBERED).patience_s == 6.0, "what is long ago does not count"
    assert usual(*[0.001] * LEAST_KNOWN).patience_s == LEAST_S


async def test_a_late_read_is_asked_for_again_and_the_first_answer_counts() -> None:
    hedge, server = await hedge_that_knows(), Server((60.0, 1), (0.0, 2))
    assert await hedge.read(N_BYTES, server.ask) == 2
    assert (server.n_asked, server.n_dropped) == (2, 1)


async def test_the_first_request_may_answer_first() -> None:
    hedge, server = await hedge_that_knows(), Server((3 * LEAST_S, 1), (60.0, 2))
    assert await hedge.read(N_BYTES, server.ask) == 1
    assert (server.n_asked, server.n_dropped) == (2, 1)


async def test_one_of_two_may_fail() -> None:
    hedge, server = await hedge_that_knows(), Server((3 * LEAST_S, 1), (0.0, Unreachable("away")))
    assert await hedge.read(N_BYTES, server.ask) == 1
    assert server.n_asked == 2


async def test_when_both_fail_the_error_is_told() -> None:
    hedge, server = await hedge_that_knows(), Server((3 * LEAST_S, Unreachable("one")), (0.0, Unreachable("two")))
    with pytest.raises(Unreachable, match="one"):
        await hedge.read(N_BYTES, server.ask)
    assert server.n_asked == 2


async def test_what_fails_at_once_is_not_asked_for_again() -> None:
    hedge, server = await hedge_that_knows(), Server((0.0, NotFound("gone")))
    with pytest.raises(NotFound):
        await hedge.read(N_BYTES, server.ask)
    assert server.n_asked == 1


@pytest.mark.parametrize("n_bytes", [N_BYTES + 1, MOST_BYTES + 1])
async def test_what_is_not_known_or_large_is_waited_for(n_bytes: int) -> None:
    hedge, server = await hedge_that_knows(n_bytes if n_bytes > MOST_BYTES else N_BYTES), Server((3 * LEAST_S, 1))
    assert await hedge.read(n_bytes, server.ask) == 1
    assert server.n_asked == 1


async def test_one_read_at_a_time_is_asked_for_twice() -> None:
    hedge = await hedge_that_knows()
    servers = [Server((6 * LEAST_S, 1), (60.0, 2)) for _ in range(5)]
    assert await asyncio.gather(*(hedge.read(N_BYTES, server.ask) for server in servers)) == [1] * 5
    assert sum(server.n_asked for server in servers) == 6
    again = Server((60.0, 1), (0.0, 2))
    assert await hedge.read(N_BYTES, again.ask) == 2, "and the next one later"


async def test_who_is_cancelled_leaves_no_request_behind() -> None:
    hedge, server = await hedge_that_knows(), Server((60.0, 1), (60.0, 2))
    reading = asyncio.ensure_future(hedge.read(N_BYTES, server.ask))
    while server.n_asked < 2:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert server.n_dropped == 2


async def test_what_is_remembered_is_bounded() -> None:
    hedge = await hedge_that_knows()
    for n_bytes in range(LENGTHS):
        await hedge.read(n_bytes, Server((0.0, 1)).ask)
    server = Server((3 * LEAST_S, 1))
    assert await hedge.read(N_BYTES, server.ask) == 1
    assert server.n_asked == 1, "that length is forgotten"
