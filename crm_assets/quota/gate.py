"""The gate every call goes through: it takes the call's part of each budget, and reports what the vendor counts."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import psycopg

from crm_assets.core.budget import Lane
from crm_assets.core.model import Budget, Limit
from crm_assets.quota.holder import Holder
from crm_assets.quota.ledger import Ledger
from crm_assets.store.database import Database

_OBSERVE_EVERY_S = 1.0
_SURPRISE = 2
"""Calls of others between two replies from which on the ledger is told at once, if that is a share of what is left."""
_SURPRISING_SHARE = 0.01
_UNCOUNTED = frozenset({"token"})
"""Kinds of call that no vendor counts."""

_numbers = itertools.count(1)


class QuotaGate:
    """The gate of one process for one lane of a connection. Safe to use from several threads."""

    def __init__(self, db: Database, connection: str, lane: str, longest_call: timedelta, reserve: float = 0.0) -> None:
        self._db = db
        self._connection = connection
        self.lane = Lane(lane)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{next(_numbers)}"
        self._longest_call = longest_call
        self._reserve = reserve
        self._lock = threading.Lock()
        self._calls = 0
        self._holders: list[Holder] = []
        self._seen: dict[str, tuple[Limit, int, float]] = {}
        self._unwritten: dict[str, Limit] = {}

    @property
    def calls(self) -> int:
        return self._calls

    def declare(self, budgets: Sequence[Budget]) -> None:
        """The limits that calls are held to from now on."""
        for budget in sorted(budgets, key=lambda one: one.name):
            ledger = Ledger(self._db, self._connection, budget.name)
            ledger.declare(budget, self._reserve)
            self._holders.append(Holder(ledger, budget, self.lane, self._owner, self._longest_call))

    @contextmanager
    def call(self, api: str, cost: int = 1) -> Iterator[None]:
        """Enclose one call. Waits for short windows and slots; QuotaExhausted where that would be long."""
        with ExitStack() as unless_it_leaves:
            held = []
            for holder in self._counting(api):
                lease = holder.enter(cost)
                held.append((holder, lease))
                unless_it_leaves.callback(holder.forgo, lease, cost)
            unless_it_leaves.pop_all()
        with self._lock:
            self._calls += 1
        try:
            yield
        finally:
            for holder, lease in held:
                holder.leave(lease, cost)

    def observe(self, limits: Sequence[Limit]) -> None:
        """Keep the vendor's numbers; the ledger gets them once a second, and at once when others have been calling."""
        told: list[Limit] = []
        with self._lock:
            for limit in limits:
                for holder in self._holders:
                    if holder.budget.name == limit.name:
                        holder.shrink(limit)
                self._unwritten[limit.name] = limit
                before, calls, at = self._seen.get(limit.name, (limit, self._calls, float("-inf")))
                left = max(0, limit.limit - limit.used)
                ours = self._calls - calls + max(_SURPRISE, int(left * _SURPRISING_SHARE))
                if (
                    time.monotonic() - at >= _OBSERVE_EVERY_S
                    or limit.limit != before.limit
                    or limit.used - before.used > ours
                    or limit.used >= limit.limit
                ):
                    told.append(self._unwritten.pop(limit.name))
                    self._seen[limit.name] = (limit, self._calls, time.monotonic())
        for limit in told:
            self._tell(limit)

    def _tell(self, limit: Limit) -> None:
        """The ledger, if it can be told: a reply must not be lost because the database is away."""
        try:
            Ledger(self._db, self._connection, limit.name).observe(limit)
        except psycopg.Error:
            with self._lock:
                self._unwritten.setdefault(limit.name, limit)
                self._seen.pop(limit.name, None)

    def refused(self, name: str, after: timedelta) -> None:
        """The vendor refused a call for the limit ``name``; nobody calls against it before ``after`` has passed."""
        for holder in self._holders:
            if holder.budget.name == name:
                holder.refuse(after)

    def close(self) -> None:
        """Write what has been seen, give back what is leased."""
        with self._lock:
            told, self._unwritten = list(self._unwritten.values()), {}
        for limit in told:
            self._tell(limit)
        for holder in self._holders:
            holder.close()

    def _counting(self, api: str) -> list[Holder]:
        """In the order of their names: slots and windows are always taken in the same order."""
        if api in _UNCOUNTED:
            return []
        return [one for one in self._holders if one.budget.apis is None or api in one.budget.apis]
