"""The gate every call goes through: it counts, keeps what the vendor says about its limits, and stops at them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from crm_assets.core.errors import QuotaExhausted
from crm_assets.core.model import Limit
from crm_assets.store.database import Database

_WRITE_EVERY_S = 1.0
BELIEVED_S = 60.0
"""How long the vendor's last word that the quota is out keeps our calls back before one asks again."""


class QuotaGate:
    """The gate of one process for one connection. Safe to use from several threads.

    The vendor's own numbers decide: they count the calls of every process and of other apps too.
    """

    def __init__(self, db: Database, connection: str, lane: str) -> None:
        self._db = db
        self._connection = connection
        self.lane = lane
        self._lock = threading.Lock()
        self._calls = 0
        self._seen: dict[str, tuple[Limit, float]] = {}
        self._dirty = False
        self._written_at = 0.0

    @property
    def calls(self) -> int:
        return self._calls

    @contextmanager
    def call(self, api: str) -> Iterator[None]:
        """Count one call. QuotaExhausted while the vendor's last word is that nothing is left."""
        with self._lock:
            for limit, at in self._seen.values():
                if limit.used >= limit.limit and time.monotonic() - at < BELIEVED_S and api != "token":
                    raise QuotaExhausted(
                        f"{self._connection}: {limit.name} is used up ({limit.used} of {limit.limit})",
                        until=datetime.now(UTC) + timedelta(seconds=BELIEVED_S - (time.monotonic() - at)),
                    )
            self._calls += 1
        yield

    def observe(self, limits: Sequence[Limit]) -> None:
        """Keep the vendor's numbers; the table gets them at most once a second."""
        with self._lock:
            for limit in limits:
                self._seen[limit.name] = (limit, time.monotonic())
            self._dirty = True
            if time.monotonic() - self._written_at < _WRITE_EVERY_S:
                return
            self._written_at = time.monotonic()
        self.flush()

    def flush(self) -> None:
        """Write what has been seen since the last time."""
        with self._lock:
            if not self._dirty:
                return
            limits = [limit for limit, _ in self._seen.values()]
            self._dirty = False
        with self._db.transaction() as conn:
            conn.cursor().executemany(
                """INSERT INTO crm_assets.quota (connection, name, used, "limit") VALUES (%s, %s, %s, %s)
                   ON CONFLICT (connection, name) DO UPDATE
                       SET used = excluded.used, "limit" = excluded."limit", updated_at = clock_timestamp()""",
                [(self._connection, limit.name, limit.used, limit.limit) for limit in limits],
            )

    def close(self) -> None:
        self.flush()
