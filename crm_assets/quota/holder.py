"""What one process holds of one budget: the block it has leased, and the calls of it that are under way."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from crm_assets.core.budget import LONG, Lane
from crm_assets.core.errors import QuotaExhausted
from crm_assets.core.model import Budget, Limit
from crm_assets.quota.ledger import Leased, Ledger, Refused

PATIENCE = timedelta(seconds=15)
"""How long a call waits for a short window or a free slot before its lane stops."""


@dataclass
class _Lease:
    leased: Leased
    unused: int
    expires: float
    under_way: int = 0
    ended: list[float] = field(default_factory=list)
    timer: threading.Timer | None = None

    @property
    def done(self) -> bool:
        return self.unused == 0 and self.under_way == 0


class Holder:
    """The budget as seen by one lane of one process. Safe to use from several threads."""

    def __init__(self, ledger: Ledger, budget: Budget, lane: Lane, owner: str, longest_call: timedelta) -> None:
        self.budget = budget
        self._ledger = ledger
        self._lane = lane
        self._owner = owner
        self._longest_call = longest_call
        self._lock = threading.Lock()
        self._lease: _Lease | None = None
        self._first = True

    def enter(self, cost: int) -> _Lease:
        """Wait for ``cost`` calls and take them. QuotaExhausted if that would be too long."""
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while True:
            with self._lock:
                lease = self._lease
                if lease is None or lease.unused < cost or time.monotonic() >= lease.expires:
                    found = self._exchange(cost)
                    lease = found if isinstance(found, _Lease) else None
                if lease is not None:
                    lease.unused -= cost
                    lease.under_way += cost
                    return lease
            assert isinstance(found, Refused)
            wait = found.wait.total_seconds()
            if self._planned or time.monotonic() + wait > deadline:
                raise QuotaExhausted(
                    f"{self._ledger.connection}: {self.budget.name} has nothing left for {self._lane}", found.until
                )
            time.sleep(wait)

    def leave(self, lease: _Lease, cost: int) -> None:
        """The call has ended, whatever its outcome; that nobody can be told of it must not hide that outcome."""
        with self._lock:
            lease.under_way -= cost
            lease.ended += [time.monotonic()] * cost
            if lease.done or lease is not self._lease or self.budget.period is None:
                self._hand_in_if_possible(lease)

    def forgo(self, lease: _Lease, cost: int) -> None:
        """The call was not made after all."""
        with self._lock:
            lease.under_way -= cost
            if lease is self._lease and lease.timer is not None:
                lease.unused += cost
            else:
                self._hand_in_if_possible(lease)

    def shrink(self, limit: Limit) -> None:
        """The vendor says what is left; more than that must not leave. A block that was leased under another limit
        is of no use any more: others hold such blocks, too, and together they may pass the new one."""
        with self._lock:
            lease = self._lease
            if lease is None or self.budget.period is None:
                return
            left = limit.limit - limit.used if limit.limit == lease.leased.limit else 0
            lease.unused = min(lease.unused, max(0, left))

    def refuse(self, after: timedelta) -> None:
        """The vendor refused a call: what is leased does not leave any more."""
        with self._lock:
            if self._lease is not None:
                self._lease.unused = 0
        self._ledger.refuse(after)

    def close(self) -> None:
        """Give back what is not used."""
        with self._lock:
            if self._lease is not None:
                self._hand_in(self._lease)

    @property
    def _planned(self) -> bool:
        return self.budget.period is not None and self.budget.period >= LONG

    def _exchange(self, cost: int) -> _Lease | Refused:
        """Hand in the block that is out, and lease another one."""
        if self._lease is not None:
            self._hand_in(self._lease)
        began = time.monotonic()
        found = self._ledger.take(self._lane, self._owner, self._longest_call, cost, first=self._first)
        self._first = False
        if isinstance(found, Refused):
            return found
        lease = self._lease = _Lease(found, found.calls, began + found.life.total_seconds())
        if found.calls > cost:
            lease.timer = threading.Timer(found.life.total_seconds(), self._expire, (lease,))
            lease.timer.daemon = True
            lease.timer.start()
        return lease

    def _expire(self, lease: _Lease) -> None:
        with self._lock:
            if lease is self._lease:
                self._hand_in_if_possible(lease)

    def _hand_in_if_possible(self, lease: _Lease) -> None:
        """While the database is away nobody can be told: then the block counts as used when its life is over."""
        with contextlib.suppress(psycopg.Error):
            self._hand_in(lease)

    def _hand_in(self, lease: _Lease) -> None:
        """Tell the ledger what became of the block; calls under way are told again when they end."""
        if lease is self._lease:
            self._lease = None
        if lease.timer is not None:
            lease.timer.cancel()
        lease.unused = 0
        now = time.monotonic()
        ages, lease.ended = [now - at for at in lease.ended], []
        self._ledger.hand_in(self._lane, lease.leased, ages, lease.under_way)
