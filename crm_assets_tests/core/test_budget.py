"""What of a budget a lane gets, decided without any I/O."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_assets.core.budget import Account, Lane, block, ends, foreign, grant

SHORT, DAY = timedelta(seconds=10), timedelta(hours=24)


def test_a_lane_alone_borrows_everything() -> None:
    assert grant(Account(100, SHORT), Lane.BACKFILL, 100, {Lane.BACKFILL}) == 100


def test_a_lane_that_asks_finds_a_little_free_and_the_last_one_is_not_starved() -> None:
    full = Account(100, SHORT, {Lane.BACKFILL: 94})
    assert grant(full, Lane.BACKFILL, 10, {Lane.WRITEBACK, Lane.BACKFILL}) == 1
    assert grant(full, Lane.WRITEBACK, 10, {Lane.WRITEBACK, Lane.BACKFILL}) == 6
    busy = Account(100, SHORT, {Lane.WRITEBACK: 98})
    assert grant(busy, Lane.RECONCILE, 10, {Lane.WRITEBACK, Lane.RECONCILE}) == 2
    assert grant(busy, Lane.WRITEBACK, 10, {Lane.WRITEBACK, Lane.RECONCILE}) == 0


def test_the_last_of_a_day_is_kept_for_the_lanes_above() -> None:
    nearly = Account(1000, DAY, {Lane.BACKFILL: 930})
    assert grant(nearly, Lane.RECONCILE, 10, ()) == 0
    assert grant(nearly, Lane.BACKFILL, 50, ()) == 20
    assert grant(nearly, Lane.WRITEBACK, 100, ()) == 70


def test_others_and_the_reserve_are_not_ours() -> None:
    account = Account(1000, DAY, {Lane.EVENTS: 100}, foreign=800, reserve=50)
    assert account.left == 50
    assert grant(account, Lane.WRITEBACK, 100, ()) == 50


lanes = st.dictionaries(st.sampled_from(list(Lane)), st.integers(0, 200))


@given(
    st.integers(0, 500),
    st.sampled_from([None, SHORT, DAY]),
    lanes,
    st.integers(0, 200),
    st.integers(0, 50),
    st.sampled_from(list(Lane)),
    st.integers(1, 50),
    st.sets(st.sampled_from(list(Lane))),
)
def test_never_more_than_is_left_and_never_less_than_nothing(
    limit: int,
    period: timedelta | None,
    spent: dict[Lane, int],
    others: int,
    reserve: int,
    lane: Lane,
    wanted: int,
    asking: set[Lane],
) -> None:
    account = Account(limit, period, spent, others, reserve)
    got = grant(account, lane, wanted, asking)
    assert 0 <= got <= max(0, min(wanted, account.left))


@given(st.sampled_from(list(Lane)), st.sets(st.sampled_from(list(Lane))))
def test_an_idle_budget_serves_whoever_asks(lane: Lane, asking: set[Lane]) -> None:
    assert grant(Account(15, None), lane, 1, asking) == 1
    assert grant(Account(5, timedelta(seconds=1)), lane, 1, asking) == 1


@pytest.mark.parametrize(
    ("seen", "settled", "under_way", "others"), [(10, 8, 3, 0), (12, 8, 3, 4), (0, 8, 0, 0), (20000, 0, 1, 20000)]
)
def test_others_show_only_in_what_cannot_be_ours(seen: int, settled: int, under_way: int, others: int) -> None:
    assert foreign(Account(24000, DAY), seen, settled, under_way) == others


def test_a_day_that_the_vendor_ends_at_midnight_is_used_from_then_on() -> None:
    day = Account(24000, DAY)
    since = foreign(day, seen=30, settled=20_000, under_way=25)
    assert since == 30 + 1200 - 20_000
    after = Account(24000, DAY, {Lane.EVENTS: 20_025}, since)
    assert after.left == 24000 - 30 - 25 - 1200, "a little is held back"
    assert Account(24000, DAY, {Lane.EVENTS: 25}, since).left == 24000, "what has left our window is not had twice"
    assert foreign(Account(100, SHORT), seen=0, settled=90, under_way=0) == 0, (
        "a short window counts no less than we do"
    )


def test_blocks_are_small_and_slots_single() -> None:
    assert [block(Account(n, p)) for n, p in ((15, None), (5, timedelta(seconds=1)), (100, SHORT), (24000, DAY))] == [
        1,
        1,
        4,
        25,
    ]


def test_the_forecast_counts_what_returns() -> None:
    account = Account(1000, DAY)
    assert ends(account, 600, 100, {}, timedelta(hours=1)) == timedelta(hours=4)
    assert ends(account, 600, 100, dict.fromkeys(range(1, 25), 90), timedelta(hours=1)) is None
    assert ends(account, 600, 0, {}, timedelta(hours=1)) is None
