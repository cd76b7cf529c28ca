"""How many workers: enough for the work, no more than the money pays for, and calm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from coordinator.fleet.deciding.scaling import Limits, Load, Scale, Wish, over_budget, scale

LIMITS = Limits(count=2, min_nodes=1, max_nodes=10, finish_in_s=900, idle_s=300)


def over_time(limits: Limits, *loads: tuple[float, Load]) -> list[int]:
    """What is asked for, look by look; each is followed at once."""
    wishes: tuple[Wish, ...] = ()
    numbers: list[int] = []
    for at, load in loads:
        answer = scale(limits, load._replace(n_nodes=numbers[-1] if numbers else load.n_nodes), wishes, at)
        wishes = answer.wishes
        numbers.append(answer.n)
    return numbers


def work(seconds: float) -> Load:
    return Load(n_nodes=1, remaining_worker_s=seconds, n_open=1)


def test_without_a_maximum_it_is_always_the_count() -> None:
    assert scale(replace(LIMITS, max_nodes=0), work(1e6), (), 0.0) == Scale(2, "nodes.count")


def test_as_many_as_finish_the_work_in_time_and_at_least_one() -> None:
    assert over_time(LIMITS, (0, work(2700))) == [3]
    assert over_time(LIMITS, (0, work(2701))) == [4]
    assert over_time(replace(LIMITS, min_nodes=0), (0, work(0)._replace(n_nodes=0))) == [1], (
        "its plan comes when somebody is there"
    )
    assert over_time(LIMITS, (0, work(1e6))) == [10]


def test_a_lull_lets_nobody_go_and_a_long_one_all_but_the_minimum() -> None:
    idle = Load(n_nodes=0)
    assert over_time(LIMITS, (0, work(4500)), (100, idle), (200, work(4500)), (300, idle), (600, idle), (601, idle)) == [
        5, 5, 5, 5, 1, 1,
    ]  # fmt: skip


def test_it_shrinks_to_the_most_that_was_wanted_lately() -> None:
    assert over_time(LIMITS, (0, work(9000)), (10, work(1800)), (200, work(4500)), (310, work(900)), (610, work(900))) == [
        10, 10, 10, 5, 1,
    ]  # fmt: skip


def test_a_keeper_that_begins_lets_nobody_go_at_once() -> None:
    assert over_time(LIMITS, (0, Load(n_nodes=6)), (299, Load(n_nodes=6)), (300, Load(n_nodes=6))) == [6, 6, 1]


def test_the_budget_ends_the_fleet_with_a_reason_before_it_is_overdrawn() -> None:
    limits = replace(LIMITS, max_cost_usd=10.0)
    load = work(1e5)._replace(spent_usd=9.0, rate_usd_per_hour=2.0)
    assert over_budget(limits, load) == ""
    answer = scale(limits, load._replace(spent_usd=9.95), (), 0.0)
    assert (answer.n, answer.is_over) == (0, True)
    assert "$9.95" in answer.reason
    assert "nodes.max_cost_usd is $10.00" in answer.reason


def test_the_hours_end_it_too_also_without_autoscaling() -> None:
    limits = replace(LIMITS, max_nodes=0, max_hours=8.0)
    assert scale(limits, Load(2, age_s=7 * 3600), (), 0.0).n == 2
    answer = scale(limits, Load(2, age_s=8 * 3600), (), 0.0)
    assert answer.is_over
    assert "nodes.max_hours is 8" in answer.reason


def test_no_node_is_added_that_what_is_left_does_not_pay_for() -> None:
    limits = replace(LIMITS, max_cost_usd=1.0)
    load = work(9000)._replace(n_nodes=2, node_usd_per_hour=0.2, rate_usd_per_hour=0.4)
    assert scale(limits, load, (), 0.0).n == 10, "0.50 for the work, and the rest for starts"
    few = scale(limits, load._replace(spent_usd=0.4), (), 0.0)
    assert 2 <= few.n < 10
    assert few.reason == "the budget pays for no more"
    assert scale(limits, load._replace(spent_usd=0.6), (), 0.0).n == 2
    assert scale(limits, load._replace(spent_usd=0.6, n_nodes=0, rate_usd_per_hour=0.0), (), 0.0).n == 1, (
        "one begins all the same"
    )
    late = replace(LIMITS, max_hours=8.0)
    assert scale(late, work(9000)._replace(n_nodes=2, age_s=8 * 3600 - 320), (), 0.0).n == 2


loads = st.builds(
    Load, n_nodes=st.integers(0, 30), remaining_worker_s=st.floats(0, 1e6), n_open=st.integers(0, 3),
    spent_usd=st.floats(0, 20), rate_usd_per_hour=st.floats(0, 20), node_usd_per_hour=st.floats(0, 5), age_s=st.floats(0, 1e5),
)  # fmt: skip


@given(st.lists(st.tuples(st.floats(0.1, 400), loads), min_size=1, max_size=20), st.integers(0, 5), st.integers(5, 12))
def test_whatever_happens_it_stays_within_its_bounds_and_remembers_little(
    looks: list[tuple[float, Load]], least: int, most: int
) -> None:
    limits = replace(LIMITS, min_nodes=least, max_nodes=most, max_cost_usd=15.0)
    wishes: tuple[Wish, ...] = ()
    now, kept = 0.0, 0
    for passed, load in looks:
        now += passed
        answer = scale(limits, load._replace(n_nodes=kept), wishes, now)
        assert answer.is_over == bool(over_budget(limits, load))
        assert answer.n == 0 if answer.is_over else 0 <= answer.n <= most
        assert answer.n >= min(least, kept) or answer.is_over
        wishes, kept = answer.wishes, answer.n
        assert all(wish.at > now - limits.idle_s for wish in wishes[1:])
