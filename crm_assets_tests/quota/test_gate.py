"""The gate in front of a vendor that counts: never over the limit, hardly ever idle below it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from crm_assets.core.errors import QuotaExhausted
from crm_assets.core.model import Budget, Limit
from crm_assets.quota import holder, ledger
from crm_assets.quota.gate import QuotaGate
from crm_assets.store.database import Database

LONGEST = timedelta(seconds=1)


class Vendor:
    """Counts as vendors do: at the arrival of a call, over a rolling window, and how many are in work at once."""

    def __init__(self, limit: int, seconds: float, latency: float) -> None:
        self._limit, self._seconds, self._latency = limit, seconds, latency
        self._lock = threading.Lock()
        self.arrivals: list[float] = []
        self.violations = self.running = self.peak = 0

    def answer(self) -> None:
        with self._lock:
            now = time.monotonic()
            self.violations += sum(at > now - self._seconds for at in self.arrivals) >= self._limit
            self.arrivals.append(now)
            self.running += 1
            self.peak = max(self.peak, self.running)
        time.sleep(self._latency)
        with self._lock:
            self.running -= 1


MakeGate = Callable[..., QuotaGate]


@pytest.fixture
def make(db: Database) -> Iterator[MakeGate]:
    gates: list[QuotaGate] = []

    def made(*budgets: Budget, lane: str = "incremental") -> QuotaGate:
        gates.append(QuotaGate(db, "crm", lane, LONGEST))
        gates[-1].declare(budgets)
        return gates[-1]

    yield made
    for gate in gates:
        gate.close()


def work(gate: QuotaGate, vendor: Vendor, calls: int) -> None:
    for _ in range(calls):
        with gate.call("query"):
            vendor.answer()


def test_many_workers_keep_a_short_window_full_and_never_pass_it(make: MakeGate) -> None:
    vendor = Vendor(50, 1.0, 0.005)
    budget = Budget("calls_1s", 50, timedelta(seconds=1))
    gates = [make(budget, lane=lane) for lane in ("backfill", "backfill", "incremental")]
    began = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work, gate, vendor, 30) for gate in (*gates, *gates)]:
            future.result()
    assert len(vendor.arrivals) == 180
    assert vendor.violations == 0
    # 180 calls are three full windows and a part of a fourth; nothing is gained by waiting longer.
    assert time.monotonic() - began < 6


def test_slots_are_never_passed(make: MakeGate) -> None:
    vendor = Vendor(10_000, 1.0, 0.02)
    budget = Budget("concurrency", 3)
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, make(budget), vendor, 5) for _ in range(8)]:
            future.result()
    assert (vendor.peak, vendor.violations) == (3, 0)


def test_only_the_kinds_that_count_take_a_part(make: MakeGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "PATIENCE", timedelta(0))
    gate = make(Budget("search_1s", 1, timedelta(seconds=30), frozenset({"search"})))
    with gate.call("search"):
        pass
    with gate.call("query"), gate.call("token"):
        pass
    with (
        pytest.raises(QuotaExhausted, match="search_1s has nothing left for incremental") as out,
        gate.call("search"),
    ):
        pass
    assert out.value.until is not None
    assert gate.calls == 3, "a call that was not made is not counted"


def test_a_call_that_meets_a_second_limit_gives_back_its_part_of_the_first(
    make: MakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holder, "PATIENCE", timedelta(0))
    day, none = Budget("a_day", 1, timedelta(hours=24)), Budget("b_slots", 1)
    gate = make(day, none)
    with gate.call("query"), pytest.raises(QuotaExhausted), make(none).call("query"):
        pass
    with pytest.raises(QuotaExhausted, match="a_day"), gate.call("query"):
        pass


def test_what_the_vendor_says_is_left_binds_what_is_leased(make: MakeGate) -> None:
    gate = make(Budget("daily_calls", 1000, timedelta(hours=24)))
    with gate.call("query"):
        pass
    gate.observe([Limit("daily_calls", 1000, 1000)])
    with pytest.raises(QuotaExhausted), gate.call("query"):
        pass


def test_another_process_hears_of_a_burst_of_other_apps(make: MakeGate) -> None:
    budget = Budget("daily_calls", 1000, timedelta(hours=24))
    first, second = make(budget), make(budget)
    first.observe([Limit("daily_calls", 10, 1000)])
    first.observe([Limit("daily_calls", 995, 1000)])
    with pytest.raises(QuotaExhausted), second.call("query"):
        pass


def test_an_idle_process_gives_back_what_it_leased(make: MakeGate) -> None:
    budget = Budget("calls_2s", 25, timedelta(seconds=2))
    idle, busy = make(budget), make(budget)
    with idle.call("query"):
        pass
    vendor = Vendor(25, 2.0, 0.0)
    began = time.monotonic()
    work(busy, vendor, 24)
    assert time.monotonic() - began < 2, "the window itself has not moved yet"


def test_a_refusal_stops_the_lane_until_the_vendor_takes_calls_again(make: MakeGate) -> None:
    gate = make(Budget("calls_1s", 10, timedelta(seconds=1)))
    with gate.call("query"):
        pass
    gate.refused("calls_1s", timedelta(seconds=0.4))
    began = time.monotonic()
    with gate.call("query"):
        assert time.monotonic() - began > 0.3


def test_a_lowered_limit_ends_what_was_leased_under_the_old_one(make: MakeGate) -> None:
    budget = Budget("daily_calls", 1000, timedelta(hours=24))
    first, second = make(budget), make(budget)
    for gate in (first, second):
        with gate.call("query"):
            pass
    for gate in (first, second):
        gate.observe([Limit("daily_calls", 2, 10)])
    calls = 0
    with pytest.raises(QuotaExhausted):
        for gate in (first, second) * 10:
            with gate.call("query"):
                calls += 1
    assert calls <= 8, "two blocks of 25 were out"


def test_a_call_that_was_forgone_frees_its_slot(make: MakeGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "PATIENCE", timedelta(0))
    one, full = Budget("a_slots", 1), Budget("b_slots", 1)
    gate, other = make(one, full), make(full)
    with other.call("query"), pytest.raises(QuotaExhausted, match="b_slots"), gate.call("query"):
        pass
    with make(one).call("query"):
        pass


def test_a_database_that_is_away_hides_no_reply(make: MakeGate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = make(Budget("slots", 1), Budget("daily_calls", 1000, timedelta(hours=24)))

    def away(*_: object) -> None:
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as patch, gate.call("query"):
        for told in ("hand_in", "observe"):
            patch.setattr(ledger.Ledger, told, away)
        gate.observe([Limit("daily_calls", 1, 1000)])
        answered = True
    assert answered
