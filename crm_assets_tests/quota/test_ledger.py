"""The ledger on a real Postgres: what is leased, what returns when, and what a dead process leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from crm_assets.core.budget import Lane
from crm_assets.core.model import Budget, Limit
from crm_assets.quota.ledger import Leased, Ledger, Refused
from crm_assets.quota.state import forecast, usage, used_up
from crm_assets.store.database import Database

NONE = timedelta(0)
SHORT = Budget("calls_1s", 3, timedelta(seconds=1))
SLOTS = Budget("concurrency", 2)
DAY = Budget("daily_calls", 1000, timedelta(hours=24))

Make = Callable[[Budget], Ledger]


@pytest.fixture
def make(db: Database) -> Make:
    def made(budget: Budget, reserve: float = 0.0) -> Ledger:
        ledger = Ledger(db, "crm", budget.name)
        ledger.declare(budget, reserve)
        return ledger

    return made


def lease(ledger: Ledger, longest: timedelta = NONE, lane: Lane = Lane.EVENTS) -> Leased:
    found = ledger.take(lane, "me", longest)
    assert isinstance(found, Leased), found
    return found


def refusal(ledger: Ledger, lane: Lane = Lane.EVENTS) -> Refused:
    found = ledger.take(lane, "me", NONE)
    assert isinstance(found, Refused), found
    return found


def test_a_call_returns_one_window_after_its_reply(make: Make) -> None:
    ledger = make(SHORT)
    for age in (0.0, 0.5, 0.9):
        ledger.hand_in(Lane.EVENTS, lease(ledger, timedelta(hours=1)), [age], 0)
    wait = refusal(ledger).wait
    assert timedelta(0) < wait <= timedelta(seconds=0.11)
    time.sleep(wait.total_seconds())
    lease(ledger)


def test_what_was_leased_and_not_used_is_free_at_once(make: Make) -> None:
    ledger = make(DAY)
    block = lease(ledger)
    assert block.calls == 25
    ledger.hand_in(Lane.EVENTS, block, [0.0] * 5, 0)
    assert usage_of(ledger) == 5


def test_calls_under_way_go_on_counting_after_their_block_was_handed_in(make: Make) -> None:
    ledger = make(DAY)
    block = lease(ledger)
    ledger.hand_in(Lane.EVENTS, block, [0.0] * 5, 2)
    assert usage_of(ledger) == 7
    ledger.hand_in(Lane.EVENTS, block, [0.0], 1)
    ledger.hand_in(Lane.EVENTS, block, [0.0], 0)
    assert usage_of(ledger) == 7


def test_a_slot_is_free_with_the_reply(make: Make) -> None:
    ledger = make(SLOTS)
    first, _ = lease(ledger, timedelta(hours=1)), lease(ledger, timedelta(hours=1))
    refusal(ledger)
    ledger.hand_in(Lane.EVENTS, first, [0.0], 0)
    lease(ledger)


def test_the_slot_of_a_dead_process_is_free_when_its_call_must_have_ended(make: Make) -> None:
    ledger = make(SLOTS)
    lease(ledger, timedelta(hours=1))
    lease(ledger, timedelta(seconds=-4.8))  # a block lives for 5 s
    refusal(ledger)
    time.sleep(0.25)
    lease(ledger)


def test_the_calls_of_a_dead_process_count_one_window_longer(make: Make) -> None:
    ledger = make(SHORT)
    for _ in range(3):
        lease(ledger, timedelta(seconds=-0.25))  # its end is now
    assert refusal(ledger).wait > timedelta(seconds=0.9)


def test_the_vendors_numbers_show_other_apps(make: Make) -> None:
    ledger = make(DAY)
    ledger.hand_in(Lane.EVENTS, lease(ledger), [0.0] * 10, 0)
    ledger.observe(Limit("daily_calls", 10, 1000))
    block = lease(ledger)
    assert block.calls == 25, "nobody else is there"
    ledger.hand_in(Lane.EVENTS, block, [], 0)
    ledger.observe(Limit("daily_calls", 1000, 1000))
    refused = refusal(ledger, Lane.WRITEBACK)
    assert timedelta(seconds=50) < refused.wait <= timedelta(seconds=60), "then one call asks again"


def test_the_vendors_limit_outranks_the_documented_one(make: Make, db: Database) -> None:
    ledger = make(DAY)
    ledger.observe(Limit("daily_calls", 1, 15))
    make(DAY)
    with db.transaction() as conn:
        assert [(one.used, one.limit) for one in usage(conn, "crm")] == [(1, 15)]
    assert lease(ledger).calls == 1


def test_a_refusal_of_the_vendor_stops_everybody_for_as_long_as_it_says(make: Make) -> None:
    ledger = make(SHORT)
    ledger.refuse(timedelta(seconds=0.3))
    wait = refusal(ledger, Lane.WRITEBACK).wait
    assert timedelta(seconds=0.2) < wait <= timedelta(seconds=0.3)
    time.sleep(wait.total_seconds())
    lease(ledger)


def test_slots_that_others_hold_show_in_the_vendors_refusal(make: Make) -> None:
    ledger = make(Budget("concurrency", 15))
    blocks = [lease(ledger, timedelta(hours=1)) for _ in range(10)]
    ledger.refuse(NONE)
    refusal(ledger)
    for block in blocks[:2]:
        ledger.hand_in(Lane.EVENTS, block, [0.0], 0)
    lease(ledger)
    refusal(ledger)


def test_a_lane_for_which_a_day_has_nothing_left_is_known_with_the_time(make: Make, db: Database) -> None:
    ledger = make(DAY)
    ledger.hand_in(Lane.BACKFILL, lease(ledger, lane=Lane.BACKFILL), [3600.0] * 985, 0)
    refusal(ledger, Lane.INCREMENTAL)
    lease(ledger, lane=Lane.WRITEBACK)
    with db.transaction() as conn:
        out = used_up(conn, "crm")
        assert used_up(conn, "crm", Lane.WRITEBACK) is None
    assert out is not None and out.name == "daily_calls"
    assert timedelta(hours=22) < out.until - db.now() < timedelta(hours=24)


def test_the_forecast_is_that_of_the_last_hour(make: Make, db: Database) -> None:
    ledger = make(DAY)
    ledger.hand_in(Lane.BACKFILL, lease(ledger, lane=Lane.BACKFILL), [1800.0] * 400, 0)
    with db.transaction() as conn:
        ending = forecast(conn, "crm")["daily_calls"]
    assert timedelta(hours=1) < ending - db.now() < timedelta(hours=3)


def usage_of(ledger: Ledger) -> int:
    with ledger._db.transaction() as conn:
        return next(one.used for one in usage(conn, "crm") if one.name == ledger.name)


def test_a_window_that_was_widened_meanwhile_is_found_by_the_first_call_of_a_process(make: Make) -> None:
    ledger = make(DAY)
    ledger.hand_in(Lane.EVENTS, lease(ledger), [0.0] * 20, 0)
    ledger.observe(Limit("daily_calls", 20, 20))
    refusal(ledger)
    assert isinstance(ledger.take(Lane.EVENTS, "new", NONE, first=True), Leased)
    assert isinstance(ledger.take(Lane.EVENTS, "another", NONE, first=True), Refused), "one of them is enough"
    ledger.observe(Limit("daily_calls", 21, 1000))
    lease(ledger)


def test_a_reserve_is_a_share_of_the_vendors_own_limit(make: Make) -> None:
    ledger = make(DAY, 0.5)
    ledger.observe(Limit("daily_calls", 0, 100))
    ledger.hand_in(Lane.WRITEBACK, lease(ledger, lane=Lane.WRITEBACK), [0.0] * 49, 0)
    assert lease(ledger, lane=Lane.WRITEBACK).calls == 1
    refusal(ledger, Lane.WRITEBACK)


def test_a_lane_that_waits_keeps_its_part_of_what_returns(make: Make) -> None:
    ledger = make(Budget("calls_5s", 20, timedelta(seconds=5)))
    ledger.hand_in(Lane.WRITEBACK, lease(ledger, lane=Lane.WRITEBACK), [0.0] * 19, 0)
    ledger.hand_in(Lane.WRITEBACK, lease(ledger, lane=Lane.WRITEBACK), [2.5], 0)
    wait = refusal(ledger, Lane.RECONCILE).wait
    assert wait > timedelta(seconds=2), "longer than an asking lane is remembered otherwise"
    time.sleep(wait.total_seconds())
    refusal(ledger, Lane.WRITEBACK)
    lease(ledger, lane=Lane.RECONCILE)
